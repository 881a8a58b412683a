// Package sanity runs csi-sanity, the conformance suite of the Container Storage Interface, against the real
// `berth standalone`: once for file systems, once for raw block devices, once with the controller on its own socket.
//
// It holds tests only. Each prepares a host of its own (host_test.go) in a mount namespace of its own
// (namespace_test.go), starts the server there (server_test.go), plays the administrator where the suite wants a volume
// to grow (administrator_test.go), and holds what was skipped against a list (skips_test.go).
package sanity

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"
)

const (
	volumeSize   = 16 << 20 // one spec wants a volume of exactly this size: its least and its most
	expandedSize = 24 << 20
	volumeCount  = 16
	grownCount   = 2 // specs that make one larger; 14 keep the size that the others ask for

	// The most that a suite may take; a few seconds are usual. A spec that hangs fails earlier, by its call's deadline.
	suiteTimeout = 3 * time.Minute
)

// run is one pass of the suite over a freshly prepared host.
type run struct {
	name    string // of its list of skipped specs
	prepare func(t *testing.T, pools string) pool
	access  string // the access type that the suite asks for
	apart   bool   // whether the controller has a socket of its own
	ids     sanity.IDGenerator
}

func TestFilesystem(t *testing.T) {
	// The suite's own ids, `fake-vol-id`, which no volume of Berth can have.
	run{name: "filesystem", prepare: tmpfsPool, access: "mount", ids: &sanity.DefaultIDGenerator{}}.privately(t)
}

func TestBlock(t *testing.T) {
	run{name: "block", prepare: devicePool, access: "block", ids: wellFormedIDs{}}.privately(t)
}

func TestSplit(t *testing.T) {
	run{name: "split", prepare: tmpfsPool, access: "mount", apart: true, ids: wellFormedIDs{}}.privately(t)
}

func (run run) privately(t *testing.T) {
	inPrivateMounts(t, func(directory string) {
		pool := run.prepare(t, filepath.Join(directory, "pools"))
		server := start(t, directory, pool, run.apart)
		if err := server.awaitClaimable(volumeCount); err != nil {
			t.Fatal(err)
		}

		report := run.suite(t, directory, pool, server)

		run.compareSkips(t, report)
		if err := server.awaitClaimable(volumeCount); err != nil {
			t.Errorf("after the suite, when every claim has ended: %v", err)
		}
		server.stop(t)
	})
}

// suite runs every spec and returns what became of each.
func (run run) suite(t *testing.T, directory string, pool pool, server *server) (report ginkgo.Report) {
	config := sanity.NewTestConfig()
	config.Address = server.endpoint
	config.ControllerAddress = server.controllerEndpoint
	config.TargetPath = filepath.Join(directory, "targets")
	config.StagingPath = filepath.Join(directory, "staging")
	config.TestVolumeAccessType = run.access
	config.TestVolumeParameters = map[string]string{"pool": pool.name}
	config.TestVolumeSize = volumeSize
	config.TestVolumeExpandSize = expandedSize
	config.IDGen = run.ids

	administrator := &administrator{server: server, sources: pool.sources}
	intercept := grpc.WithUnaryInterceptor(administrator.intercept)
	config.DialOptions = append(config.DialOptions, intercept)
	config.ControllerDialOptions = append(config.ControllerDialOptions, intercept)

	ginkgo.BeforeEach(func() {
		// A spec takes one volume at a time. With so many free, one has the exact size.
		if err := server.awaitClaimable(grownCount + 1); err != nil {
			ginkgo.AbortSuite(err.Error())
		}
	})
	ginkgo.ReportAfterSuite("keep the report", func(all ginkgo.Report) { report = all })
	gomega.RegisterFailHandler(ginkgo.Fail)
	context := sanity.GinkgoTest(&config)
	defer context.Finalize()

	suiteConfig, reporterConfig := ginkgo.GinkgoConfiguration()
	suiteConfig.Timeout = suiteTimeout
	reporterConfig.NoColor = true
	ginkgo.RunSpecs(t, "csi-sanity, "+run.name, suiteConfig, reporterConfig)
	return report
}

// wellFormedIDs makes ids that Berth might have given out, so that what refuses them is the search in the inventory.
type wellFormedIDs struct{ sanity.DefaultIDGenerator }

func (wellFormedIDs) GenerateUniqueValidVolumeID() string {
	return node + "-gone-v1-" + uuid.NewString()[24:] + "@1"
}

func (wellFormedIDs) GenerateUniqueValidNodeID() string {
	return "node-" + uuid.NewString()
}
