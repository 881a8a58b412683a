package sanity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// pool is one pool of volumes as an administrator would prepare it, each of exactly volumeSize bytes.
type pool struct {
	name    string
	config  string            // its part of pools.yaml
	sources map[string]source // by the path that leads to it without a symlink
}

// source is what is behind a volume and can be made larger.
type source interface {
	grow(size int64) error
}

// tmpfsPool mounts tmpfs file systems beneath pools: a tmpfs of size=S reports exactly S to statfs(2).
func tmpfsPool(t *testing.T, pools string) pool {
	pool := newPool(t, pools, "fast", "mode: Filesystem, accept: [mount], clean: {method: delete}")
	for _, entry := range pool.entries(t, pools) {
		must(t, os.Mkdir(entry, 0o755))
		options := fmt.Sprintf("size=%d,mode=0755", volumeSize)
		must(t, os.NewSyscallError("mount a tmpfs at "+entry, unix.Mount("volume", entry, "tmpfs", 0, options)))
		pool.sources[entry] = tmpfs{at: entry}
	}
	return pool
}

// devicePool attaches loop devices to sparse files and puts a symlink to each beneath pools.
func devicePool(t *testing.T, pools string) pool {
	pool := newPool(t, pools, "raw", "mode: Block, clean: {method: zero}")
	for _, entry := range pool.entries(t, pools) {
		device := attach(t, filepath.Join(pools, filepath.Base(entry)+".img"))
		must(t, os.Symlink(device.device, entry))
		pool.sources[device.device] = device
	}
	return pool
}

func newPool(t *testing.T, pools, name, settings string) pool {
	path := filepath.Join(pools, name)
	must(t, os.MkdirAll(path, 0o755))
	return pool{
		name:    name,
		config:  fmt.Sprintf("pools:\n  %s: {path: %q, %s}\n", name, path, settings),
		sources: make(map[string]source),
	}
}

// entries are the paths of the pool's volumes to be.
func (pool pool) entries(t *testing.T, pools string) (paths []string) {
	// The server may say where a volume is without the symlinks that lead there.
	path, err := filepath.EvalSymlinks(filepath.Join(pools, pool.name))
	must(t, err)
	for number := range volumeCount {
		paths = append(paths, filepath.Join(path, fmt.Sprintf("v%d", number+1)))
	}
	return paths
}

type tmpfs struct{ at string }

func (tmpfs tmpfs) grow(size int64) error {
	options := fmt.Sprintf("size=%d", size)
	return os.NewSyscallError("remount "+tmpfs.at, unix.Mount("", tmpfs.at, "", unix.MS_REMOUNT, options))
}

// loop is the path of a loop device and the file behind it. Nothing holds the device open: a volume that somebody has
// open is not wiped.
type loop struct {
	device string
	image  *os.File
}

func attach(t *testing.T, path string) loop {
	image, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(t, err)
	t.Cleanup(func() { image.Close() })
	must(t, image.Truncate(volumeSize))

	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	must(t, err)
	defer control.Close()
	for {
		device, err := attachFree(control, image)
		if errors.Is(err, unix.EBUSY) { // another process took the same free device first
			continue
		}
		must(t, err)
		loop := loop{device: device, image: image}
		t.Cleanup(func() {
			if err := loop.set(unix.LOOP_CLR_FD); err != nil {
				t.Errorf("detach %s: %v", device, err)
			}
		})
		return loop
	}
}

func attachFree(control, image *os.File) (string, error) {
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", os.NewSyscallError("ioctl(LOOP_CTL_GET_FREE)", err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer device.Close()
	config := unix.LoopConfig{Fd: uint32(image.Fd())}
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		return "", os.NewSyscallError("ioctl(LOOP_CONFIGURE) of "+device.Name(), err)
	}
	return device.Name(), nil
}

func (loop loop) grow(size int64) error {
	if err := loop.image.Truncate(size); err != nil {
		return err
	}
	return loop.set(unix.LOOP_SET_CAPACITY)
}

// set makes a request of the device that takes no argument.
func (loop loop) set(request uint) error {
	device, err := os.OpenFile(loop.device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	return os.NewSyscallError("ioctl of "+loop.device, unix.IoctlSetInt(int(device.Fd()), request, 0))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
