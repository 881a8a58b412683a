// The part of the kubelet that plugins register with, run alone: the plugin watcher, the reconciler and the gRPC client of
// k8s.io/kubernetes, as its plugin manager puts them together, over the directory that is given. Only what is behind
// them, the CSI handler, is a stand-in.
//
// Prints a line of JSON for each call of the handler. "refuse WHY" on stdin makes registrations fail from then on,
// "accept" lets them pass again, the end of stdin ends the program.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager/cache"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager/operationexecutor"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager/pluginwatcher"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager/reconciler"
)

// Event is what a line of the output says.
type Event struct {
	Event    string   `json:"event"`
	Name     string   `json:"name"`
	Endpoint string   `json:"endpoint"`
	Versions []string `json:"versions"`
}

type handler struct {
	mutex   sync.Mutex
	refusal error
}

func (h *handler) tell(event, name, endpoint string, versions []string) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(Event{event, name, endpoint, versions}); err != nil {
		log.Fatal(err)
	}
	return h.refusal
}

func (h *handler) refuse(refusal error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.refusal = refusal
}

func (h *handler) ValidatePlugin(_ context.Context, name, endpoint string, versions []string) error {
	h.tell("validate", name, endpoint, versions)
	return nil
}

func (h *handler) RegisterPlugin(_ context.Context, name, endpoint string, versions []string, _ *time.Duration) error {
	return h.tell("register", name, endpoint, versions)
}

func (h *handler) DeRegisterPlugin(_ context.Context, name, endpoint string) {
	h.tell("deregister", name, endpoint, nil)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatalf("usage: %s PLUGINS_REGISTRY", os.Args[0])
	}
	ctx := context.Background()
	csi := &handler{}
	desired, actual := cache.NewDesiredStateOfWorld(), cache.NewActualStateOfWorld()
	generator := operationexecutor.NewOperationGenerator(&record.FakeRecorder{})
	executor := operationexecutor.NewOperationExecutor(generator)
	loop := reconciler.NewReconciler(executor, time.Second, desired, actual)
	loop.AddHandler("CSIPlugin", csi)
	if err := pluginwatcher.NewWatcher(os.Args[1], desired).Start(ctx, make(chan struct{})); err != nil {
		log.Fatal(err)
	}
	go loop.Run(ctx)

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if why, refused := strings.CutPrefix(lines.Text(), "refuse "); refused {
			csi.refuse(errors.New(why))
		} else {
			csi.refuse(nil)
		}
	}
}
