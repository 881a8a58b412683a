// Stand-ins for two sidecars of kubernetes-csi that cannot be had from Go's module proxy: node-driver-registrar and
// livenessprobe. They take the flags that the chart gives the real ones, and do with the driver and the kubelet what
// those do. Which one it is, the first argument says.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var sidecars = map[string]func(flags []string){
	"node-driver-registrar": register,
	"livenessprobe":         probe,
}

func main() {
	if len(os.Args) < 2 || sidecars[os.Args[1]] == nil {
		log.Fatalf("usage: %s node-driver-registrar|livenessprobe FLAG...", os.Args[0])
	}
	sidecars[os.Args[1]](os.Args[2:])
}

// connect opens a connection to the driver's socket, which need not be there yet.
func connect(socket string) *grpc.ClientConn {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return connection
}

// driverName waits for the driver and asks for its name.
func driverName(connection *grpc.ClientConn) string {
	info, err := csi.NewIdentityClient(connection).
		GetPluginInfo(context.Background(), &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		log.Fatalf("GetPluginInfo: %v", err)
	}
	return info.GetName()
}

// serveHealth answers /healthz as `check` says.
func serveHealth(address string, check func(context.Context) error) {
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, request *http.Request) {
		ctx, cancel := context.WithTimeout(request.Context(), time.Second)
		defer cancel()
		if err := check(ctx); err != nil {
			log.Printf("not healthy: %v", err)
			http.Error(answer, err.Error(), http.StatusInternalServerError)
		}
	})
	log.Fatal(http.ListenAndServe(address, nil))
}
