package sanity

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

// compareSkips fails unless the specs that were skipped, or are pending upstream, are exactly those of the run's list.
// All others have passed then: where a spec failed, which ones were skipped says nothing.
func (run run) compareSkips(t *testing.T, report ginkgo.Report) {
	if !report.SuiteSucceeded {
		return
	}
	expected := readSkips(t, "skips-"+run.name+".txt")
	var skipped []string
	for _, spec := range report.SpecReports.WithLeafNodeType(types.NodeTypeIt) {
		if !spec.State.Is(types.SpecStateSkipped | types.SpecStatePending) {
			continue
		}
		skipped = append(skipped, spec.FullText())
		if !slices.Contains(expected, spec.FullText()) {
			t.Errorf("skipped, but not in skips-%s.txt: %s (%s)", run.name, spec.FullText(), spec.Failure.Message)
		}
	}
	for _, name := range expected {
		if !slices.Contains(skipped, name) {
			t.Errorf("in skips-%s.txt, but not skipped: %s", run.name, name)
		}
	}
}

// readSkips reads a list of specs, one a line.
func readSkips(t *testing.T, file string) []string {
	text, err := os.ReadFile(file)
	must(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestEverySkippedSpecHasItsReasonInTheReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	must(t, err)
	lists, err := filepath.Glob("skips-*.txt")
	must(t, err)
	if len(lists) != 3 {
		t.Fatalf("three runs have a list of skipped specs each; found %q", lists)
	}
	for _, list := range lists {
		for _, name := range readSkips(t, list) {
			if !strings.Contains(string(readme), fmt.Sprintf("\n* %s\n", name)) {
				t.Errorf("%s: README.md gives no reason for %s", list, name)
			}
		}
	}
}
