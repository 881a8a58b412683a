package main

import (
	"context"
	"errors"
	"flag"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// probe is livenessprobe: whoever asks over HTTP is told whether the driver answers, each time over a connection of its own.
func probe(arguments []string) {
	flags := flag.NewFlagSet("livenessprobe", flag.ExitOnError)
	driver := flags.String("csi-address", "/run/csi/socket", "the driver's socket")
	health := flags.String("http-endpoint", ":9808", "where to serve /healthz")
	flags.Parse(arguments)

	first := connect(*driver)
	driverName(first)
	first.Close()
	serveHealth(*health, func(ctx context.Context) error {
		connection := connect(*driver)
		defer connection.Close()
		answer, err := csi.NewIdentityClient(connection).Probe(ctx, &csi.ProbeRequest{})
		if err != nil {
			return err
		}
		if ready := answer.GetReady(); ready != nil && !ready.GetValue() {
			return errors.New("the driver is not ready")
		}
		return nil
	})
}
