package sanity

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideKey names the environment variable that tells the process in the namespace its directory.
const insideKey = "BERTH_SANITY_DIRECTORY"

// inPrivateMounts runs act in another process, which is this test alone in a mount namespace of its own: nothing that
// is mounted there is seen outside, all of it goes with the process however it ends, and Ginkgo, which runs one suite
// per process, has one to itself. act is given an empty directory.
func inPrivateMounts(t *testing.T, act func(directory string)) {
	t.Helper()
	if directory := os.Getenv(insideKey); directory != "" {
		mountScratch(t, directory)
		act(directory)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("csi-sanity makes mounts and loop devices: run it as root (sudo)")
	}

	output, err := again(t, t.TempDir()).CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, output)
	case testing.Verbose():
		os.Stdout.Write(output)
	default:
		printClosingLines(t, output)
	}
}

// again is the command that runs this very test in a private mount namespace. It dies with this process.
func again(t *testing.T, directory string) *exec.Cmd {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	arguments := []string{"-test.run=^" + t.Name() + "$"}
	for _, argument := range os.Args[1:] {
		if strings.HasPrefix(strings.TrimLeft(argument, "-"), "ginkgo.") {
			arguments = append(arguments, argument)
		}
	}
	if deadline, ok := t.Deadline(); ok {
		arguments = append(arguments, fmt.Sprintf("-test.timeout=%s", time.Until(deadline)))
	}

	command := exec.Command(program, arguments...)
	command.Env = append(os.Environ(), insideKey+"="+directory)
	command.SysProcAttr = dyingWithParent(t)
	// With this flag Go also makes every mount private, recursively, before the program starts.
	command.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	return command
}

// dyingWithParent has the kernel kill a child with this process, so that not even a SIGKILL leaves a server, a mount or
// a loop device behind. The kernel watches the thread that forked, which is therefore kept until the test ends.
func dyingWithParent(t *testing.T) *syscall.SysProcAttr {
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// mountScratch puts a tmpfs on directory: whatever is left in it goes with the namespace.
func mountScratch(t *testing.T, directory string) {
	if err := unix.Mount("scratch", directory, "tmpfs", 0, "mode=0700"); err != nil {
		t.Fatalf("mount a tmpfs at %s: %v", directory, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(directory, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", directory, err)
		}
	})
}

// printClosingLines prints what Ginkgo said about the suite as a whole: how many specs ran, passed, were skipped.
func printClosingLines(t *testing.T, output []byte) {
	ran := false
	for line := range bytes.Lines(output) {
		if bytes.HasPrefix(line, []byte("Ran ")) || bytes.HasPrefix(line, []byte("SUCCESS!")) {
			ran = true
			fmt.Printf("%s: %s", t.Name(), line)
		}
	}
	if !ran {
		t.Fatalf("the suite did not run:\n%s", output)
	}
}
