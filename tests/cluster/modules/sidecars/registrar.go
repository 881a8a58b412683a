package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar answers the kubelet, which has found its socket.
type registrar struct {
	registration.UnimplementedRegistrationServer
	info *registration.PluginInfo
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return r.info, nil
}

func (r *registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Fatalf("the kubelet does not register %s: %s", r.info.Name, status.Error)
	}
	log.Printf("the kubelet has registered %s", r.info.Name)
	return &registration.RegistrationStatusResponse{}, nil
}

// register is node-driver-registrar: it asks the driver for its name, and offers it to the kubelet until it is ended.
func register(arguments []string) {
	flags := flag.NewFlagSet("node-driver-registrar", flag.ExitOnError)
	driver := flags.String("csi-address", "/run/csi/socket", "the driver's socket")
	endpoint := flags.String("kubelet-registration-path", "", "the same socket, as the kubelet sees it")
	directory := flags.String("plugin-registration-path", "/registration", "the kubelet's directory")
	health := flags.String("http-endpoint", "", "where to serve /healthz; nowhere if empty")
	flags.Parse(arguments)

	connection := connect(*driver)
	name := driverName(connection)
	connection.Close()
	socket := filepath.Join(*directory, name+"-reg.sock")
	listener, err := listen(socket)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &registrar{info: &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              name,
		Endpoint:          *endpoint,
		SupportedVersions: []string{"1.0.0"},
	}})
	if *health != "" {
		go serveHealth(*health, func(context.Context) error {
			_, err := os.Stat(socket)
			return err
		})
	}
	go func() {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
		<-ended
		// The listener takes its socket away, and so the kubelet hears that the driver is gone.
		server.Stop()
	}()
	log.Printf("offering %s at %s", name, socket)
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}

// listen makes the socket anew: one that is there is of a registrar that was killed.
func listen(socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("an old socket stays: %w", err)
	}
	syscall.Umask(0o077)
	return net.Listen("unix", socket)
}
