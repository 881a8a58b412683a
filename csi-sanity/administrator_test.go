package sanity

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// callDeadline is the longest that one call of the suite may take. The suite itself sets none.
const callDeadline = 30 * time.Second

// administrator stands between the suite and the server. Berth doesn't make a source larger, a person does; and it
// offers as expansion only what the source has grown to. The suite wants a volume expanded to a size of its choice, so
// the administrator gives the source that size just before.
type administrator struct {
	server  *server
	sources map[string]source
}

// intercept is a grpc.UnaryClientInterceptor.
func (administrator *administrator) intercept(
	ctx context.Context, method string, request, reply any,
	connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if expand, ok := request.(*csi.ControllerExpandVolumeRequest); ok {
		if err := administrator.growSource(expand.GetVolumeId(), expand.GetCapacityRange()); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	return invoke(ctx, method, request, reply, connection, options...)
}

// growSource makes the source of a volume as large as asked, and waits until the server has seen it. An id that names no
// volume is left for the server to refuse.
func (administrator *administrator) growSource(id string, asked *csi.CapacityRange) error {
	name, _, _ := strings.Cut(id, "@")
	volume, err := administrator.volume(name)
	if err != nil || volume == nil || volume.Status.Capacity >= asked.GetRequiredBytes() {
		return err
	}
	path, err := filepath.EvalSymlinks(volume.Status.Path)
	if err != nil {
		return err
	}
	source, ok := administrator.sources[path]
	if !ok {
		return fmt.Errorf("volume %s is at %s, where none was prepared", name, path)
	}
	if err := source.grow(asked.GetRequiredBytes()); err != nil {
		return err
	}
	what := fmt.Sprintf("the %d bytes that the source of volume %s has grown to", asked.GetRequiredBytes(), name)
	return administrator.server.await(what, func() error {
		volume, err := administrator.volume(name)
		if err == nil && (volume == nil || volume.Status.Capacity != asked.GetRequiredBytes()) {
			return fmt.Errorf("the inventory says: %v", volume)
		}
		return err
	})
}

// volume is the volume of that name, or nil.
func (administrator *administrator) volume(name string) (*volume, error) {
	volumes, err := administrator.server.volumes()
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(volumes, func(volume volume) bool { return volume.Name == name })
	if at < 0 {
		return nil, nil
	}
	return &volumes[at], nil
}
