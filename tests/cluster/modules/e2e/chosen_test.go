package e2e

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

var (
	leftOutFile = flag.String("berth.left-out", "", "specs to leave out: regular expressions, each group beneath its reason")
	onlyFile    = flag.String("berth.only", "", "the specs to run, by the ends of their names, all of which have to run")
)

// leftOut is a group of specs that do not run, and why.
type leftOut struct {
	reason   string
	patterns []*regexp.Regexp
}

// A spec of the drivers that were asked for; the rest comes with the suite's package.
var external = regexp.MustCompile(`External Storage`)

// lines are a file's lines, but for empty ones.
func lines(file string) []string {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

func readLeftOut() []leftOut {
	var groups []leftOut
	comment := false
	for _, line := range lines(*leftOutFile) {
		text, isComment := strings.CutPrefix(line, "# ")
		switch {
		case isComment && comment:
			groups[len(groups)-1].reason += " " + text
		case isComment:
			groups = append(groups, leftOut{reason: text})
		default:
			group := &groups[len(groups)-1]
			group.patterns = append(group.patterns, regexp.MustCompile(line))
		}
		comment = isComment
	}
	return groups
}

func readOnly() []string {
	var names []string
	for _, line := range lines(*onlyFile) {
		if !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names
}

// choose tells Ginkgo which specs run.
func choose() {
	set := func(name, value string) {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	for _, name := range readOnly() {
		set("ginkgo.focus", regexp.QuoteMeta(name)+"$")
	}
	for _, group := range readLeftOut() {
		for _, pattern := range group.patterns {
			set("ginkgo.skip", pattern.String())
		}
	}
}

// Nothing is left out in silence: neither a spec that skips itself, nor one that was asked for and is not there. And no
// reason stays that has become idle.
var _ = ginkgo.ReportAfterSuite("everything asked for has run", func(report ginkgo.Report) {
	var wrong []string
	focus := regexp.MustCompile(strings.Join(report.SuiteConfig.FocusStrings, "|"))
	ran := map[string]bool{}
	groups := readLeftOut()
	counts := make([]int, len(groups))
	idle := map[*regexp.Regexp]bool{}
	for _, group := range groups {
		for _, pattern := range group.patterns {
			idle[pattern] = true
		}
	}
	for _, spec := range report.SpecReports {
		name := spec.FullText()
		if spec.LeafNodeType != types.NodeTypeIt || !external.MatchString(name) || !focus.MatchString(name) {
			continue
		}
		skipped := false
		for i, group := range groups {
			matches := false
			for _, pattern := range group.patterns {
				if pattern.MatchString(name) {
					matches, idle[pattern] = true, false
				}
			}
			if matches && !skipped {
				counts[i]++
				skipped = true
			}
		}
		if spec.State.Is(types.SpecStateSkipped|types.SpecStatePending) && !skipped {
			wrong = append(wrong, fmt.Sprintf("did not run: %s: %s", name, spec.FailureMessage()))
		}
		ran[name] = !skipped
	}
	for i, group := range groups {
		if counts[i] > 0 {
			fmt.Printf("\nleft out: %3d  %s", counts[i], group.reason)
		}
	}
	for _, name := range readOnly() {
		found := false
		for full := range ran {
			found = found || ran[full] && strings.HasSuffix(full, name)
		}
		if !found {
			wrong = append(wrong, "there is no such spec, or it is left out: "+name)
		}
	}
	if focus.String() == external.String() {
		for pattern := range idle {
			if idle[pattern] {
				wrong = append(wrong, "no spec is left out by: "+pattern.String())
			}
		}
	}
	if len(wrong) > 0 {
		ginkgo.Fail(strings.Join(wrong, "\n"))
	}
})
