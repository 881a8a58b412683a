package sanity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	node = "sanity" // the name of the node that the server says it is

	patience = time.Minute // the longest wait for a condition
	interval = 20 * time.Millisecond
	// The longest that a short command or a readiness probe may take.
	shortly = 10 * time.Second
)

// server is a running `berth standalone`.
type server struct {
	binary             string
	endpoint           string
	controllerEndpoint string // empty where the controller shares the other
	process            *os.Process
	ended              chan struct{} // closed when the process has ended
	exit               *os.ProcessState
}

// volume is one object of `berth volumes -o json`, as far as it is of interest here.
type volume struct {
	Name string
	Spec struct {
		Tenancy  uint64
		Claim    *struct{ Name string }
		Cordoned bool
	}
	Status struct {
		Path       string
		Capacity   int64
		CleanFor   *uint64
		Conditions struct{ Healthy, Clean condition }
	}
}

type condition struct {
	Status          bool
	Reason, Message string
}

// start runs the server over one pool, its files in directory, and waits until it says that it is ready. It is killed
// at the end of the test, and its log printed if the test has failed.
func start(t *testing.T, directory string, pool pool, apart bool) *server {
	server := &server{
		binary:   binary(t),
		endpoint: "unix://" + filepath.Join(directory, "csi.sock"),
		ended:    make(chan struct{}),
	}
	config := filepath.Join(directory, "pools.yaml")
	must(t, os.WriteFile(config, []byte(pool.config), 0o600))
	arguments := []string{
		"standalone", "--config", config, "--state", filepath.Join(directory, "state"),
		"--endpoint", server.endpoint, "--node", node,
	}
	if apart {
		server.controllerEndpoint = "unix://" + filepath.Join(directory, "controller.sock")
		arguments = append(arguments, "--controller-endpoint", server.controllerEndpoint)
	}
	server.spawn(t, filepath.Join(directory, "berth.log"), arguments)
	must(t, server.awaitReady())
	return server
}

// binary is the program under test, which BERTH_BIN names.
func binary(t *testing.T) string {
	path := os.Getenv("BERTH_BIN")
	if path == "" {
		t.Fatal("BERTH_BIN is not set: it names the program to test. Use csi-sanity/run target/debug/berth, which sets it")
	}
	path, err := exec.LookPath(path)
	if err != nil {
		t.Fatalf("BERTH_BIN is no program that can be run (build it: cargo build --bin berth): %v", err)
	}
	return path
}

func (server *server) spawn(t *testing.T, log string, arguments []string) {
	file, err := os.Create(log)
	must(t, err)
	defer file.Close()
	command := exec.Command(server.binary, arguments...)
	command.Stdout, command.Stderr = file, file
	command.SysProcAttr = dyingWithParent(t)
	must(t, command.Start())
	server.process = command.Process
	go func() {
		defer close(server.ended)
		_ = command.Wait() // what it would say is in the state
		server.exit = command.ProcessState
	}()
	t.Cleanup(func() {
		_ = server.process.Kill() // does nothing where the process has ended
		<-server.ended
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			fmt.Printf("\n%s %q said:\n%s", server.binary, arguments, text)
		}
	})
}

// stop asks the server to end, and sees that it does so in order.
func (server *server) stop(t *testing.T) {
	if err := server.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("send SIGTERM to the server: %v", err)
	}
	select {
	case <-server.ended:
		if code := server.exit.ExitCode(); code != 0 {
			t.Errorf("after SIGTERM the server ended with %v, not with exit code 0", server.exit)
		}
	case <-time.After(patience):
		t.Errorf("the server still ran %v after SIGTERM", patience)
	}
}

// awaitReady waits until Identity.Probe says ready on every socket.
func (server *server) awaitReady() error {
	for _, endpoint := range []string{server.endpoint, server.controllerEndpoint} {
		if endpoint == "" {
			continue
		}
		err := server.await("Probe at "+endpoint+" to say ready", func() error { return probe(endpoint) })
		if err != nil {
			return err
		}
	}
	return nil
}

func probe(endpoint string) error {
	// A connection for each try: a failed one would be tried again only after a second.
	connection, err := grpc.NewClient(
		endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return err
	}
	defer connection.Close()
	soon, cancel := context.WithTimeout(context.Background(), shortly)
	defer cancel()
	answer, err := csi.NewIdentityClient(connection).Probe(soon, &csi.ProbeRequest{})
	if err == nil && !answer.GetReady().GetValue() {
		return errors.New("it answers that it is not ready")
	}
	return err
}

// awaitClaimable waits until at least count volumes may be claimed.
func (server *server) awaitClaimable(count int) error {
	return server.await(fmt.Sprintf("%d claimable volumes", count), func() error {
		volumes, err := server.volumes()
		if err != nil {
			return err
		}
		claimable, others := 0, ""
		for _, volume := range volumes {
			if volume.isClaimable() {
				claimable++
			} else {
				others += fmt.Sprintf("\n  %v", volume)
			}
		}
		if claimable < count {
			return fmt.Errorf("%d of %d volumes are claimable, the others are:%s", claimable, len(volumes), others)
		}
		return nil
	})
}

// String is what is known of the volume, for an error.
func (volume volume) String() string {
	text, err := json.Marshal(volume)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// isClaimable is the rule of a claimable volume: free, wiped since its latest tenancy, healthy and
// not cordoned.
func (volume volume) isClaimable() bool {
	clean := volume.Status.CleanFor != nil && *volume.Status.CleanFor == volume.Spec.Tenancy
	return volume.Spec.Claim == nil && clean && volume.Status.Conditions.Healthy.Status && !volume.Spec.Cordoned
}

// volumes is the whole inventory, as `berth volumes` shows it.
func (server *server) volumes() (volumes []volume, err error) {
	soon, cancel := context.WithTimeout(context.Background(), shortly)
	defer cancel()
	command := exec.CommandContext(soon, server.binary, "volumes", "-o", "json", "--endpoint", server.endpoint)
	output, err := command.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("%v: %v: %s", command, err, failed.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", command, err)
	}
	if err := json.Unmarshal(output, &volumes); err != nil {
		return nil, fmt.Errorf("%v printed what is no list of volumes: %w: %s", command, err, output)
	}
	return volumes, nil
}

// await tries until it succeeds, or the server has ended, or patience is at an end; the error says what the last try
// came to.
func (server *server) await(what string, try func() error) error {
	end := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %s: %w", patience, what, err)
		}
		select {
		case <-server.ended:
			return fmt.Errorf("the server ended with %v while waiting for %s: %w", server.exit, what, err)
		case <-time.After(interval):
		}
	}
}
