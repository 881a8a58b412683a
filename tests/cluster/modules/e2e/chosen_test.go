package e2e

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

var (
	leftOutFile = flag.String("berth.left-out", "", "specs to leave out: regular expressions, each group beneath its reason")
	onlyFile    = flag.String("berth.only", "", "the specs to run, by the ends of their names; each of them has to run")
)

// Whatever the focus is, specs of other names come with the suite's package and are none of ours.
const ours = "External Storage"

// reason is why some specs do not run.
type reason struct {
	text     string
	patterns []*pattern
	specs    int
}

// pattern is what names of specs have in common that are left out.
type pattern struct {
	*regexp.Regexp
	used bool
}

// applies tells whether the spec is left out for this reason, and notes by which patterns.
func (r *reason) applies(name string) bool {
	found := false
	for _, p := range r.patterns {
		if p.MatchString(name) {
			p.used, found = true, true
		}
	}
	return found
}

// choose tells Ginkgo which specs run. To be called when flags are parsed.
func choose() {
	set := func(name, value string) {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	for _, name := range only() {
		set("ginkgo.focus", ours+".*"+regexp.QuoteMeta(name)+"$")
	}
	for _, r := range reasons() {
		for _, p := range r.patterns {
			set("ginkgo.skip", p.String())
		}
	}
}

// Nothing is left out in silence: neither a spec that skips itself, nor one that was asked for and is not there. And of
// everything that is left out the reason is told, and no reason is kept that has become idle.
var _ = ginkgo.ReportAfterSuite("everything that was asked for has run", func(report ginkgo.Report) {
	var wrong, ran []string
	reasons, focus := reasons(), regexp.MustCompile(strings.Join(report.SuiteConfig.FocusStrings, "|"))
	for _, spec := range report.SpecReports {
		name := spec.FullText()
		if spec.LeafNodeType != types.NodeTypeIt || !strings.HasPrefix(name, ours) || !focus.MatchString(name) {
			continue
		}
		isLeftOut := false
		for _, r := range reasons {
			if r.applies(name) && !isLeftOut {
				isLeftOut = true
				r.specs++
			}
		}
		if spec.State.Is(types.SpecStateSkipped | types.SpecStatePending) {
			if !isLeftOut {
				wrong = append(wrong, fmt.Sprintf("skipped itself: %s: %s", name, spec.FailureMessage()))
			}
		} else {
			ran = append(ran, name)
		}
	}
	for _, name := range only() {
		if !slices.ContainsFunc(ran, func(full string) bool { return strings.HasSuffix(full, name) }) {
			wrong = append(wrong, "has not run, if there is such a spec at all: "+name)
		}
	}
	fmt.Println()
	for _, r := range reasons {
		if r.specs > 0 {
			fmt.Printf("left out: %3d  %s\n", r.specs, r.text)
		}
		for _, p := range r.patterns {
			if !p.used && focus.String() == ours {
				wrong = append(wrong, "leaves nothing out: "+p.String())
			}
		}
	}
	if len(wrong) > 0 {
		ginkgo.Fail(strings.Join(wrong, "\n"))
	}
})

// reasons are those in the file of what is left out: comments, and beneath each its patterns.
func reasons() []*reason {
	var all []*reason
	isOver := true
	for _, line := range lines(*leftOutFile) {
		text, isComment := strings.CutPrefix(line, "# ")
		switch {
		case !isComment:
			last := all[len(all)-1]
			last.patterns = append(last.patterns, &pattern{Regexp: regexp.MustCompile(line)})
		case isOver:
			all = append(all, &reason{text: text})
		default:
			all[len(all)-1].text += " " + text
		}
		isOver = !isComment
	}
	return all
}

// only are the specs that are to run, if not all are.
func only() []string {
	return slices.DeleteFunc(lines(*onlyFile), func(line string) bool { return strings.HasPrefix(line, "#") })
}

// lines are those of a file that hold something; none of no file.
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
