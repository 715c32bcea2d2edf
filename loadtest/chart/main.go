// Chart draws how many packets are settled a second over the depth of the lanes,
// for several batch sizes, from reports of --scenario backlog:depth=D --batch B that
// are kept as B-D.json in one folder. The picture goes to standard output.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/waystation/waystation/loadtest/report"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(2)
	}
}

// run draws what is in the folder that args name.
func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: go run ./loadtest/chart FOLDER")
	}
	files, err := filepath.Glob(filepath.Join(args[0], "*-*.json"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("read %s: no B-D.json there", args[0])
	}
	plot := report.Plot{Title: "Settled/s over lane depth, by batch", X: "packets waiting in each lane", Y: "settled/s", LogX: true}
	lines := map[int][][2]float64{}
	for _, file := range files {
		var batch, depth int
		if _, err := fmt.Sscanf(filepath.Base(file), "%d-%d.json", &batch, &depth); err != nil {
			return fmt.Errorf("read %s: not named BATCH-DEPTH.json", file)
		}
		speed, err := speed(file)
		if err != nil {
			return err
		}
		lines[batch] = append(lines[batch], [2]float64{float64(depth), speed})
	}
	for batch, points := range lines {
		slices.SortFunc(points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
		name := fmt.Sprintf("fixed, %3d at most", batch)
		if batch == 0 {
			name = "adaptive" // before all others, by name too
		}
		plot.Series = append(plot.Series, report.Series{Name: name, Points: points})
	}
	slices.SortFunc(plot.Series, func(a, b report.Series) int { return cmp.Compare(a.Name, b.Name) })
	_, err = io.WriteString(out, plot.SVG())
	return err
}

// speed is what one report says of the larger backlog.
func speed(file string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read report: %w", err)
	}
	var r report.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	if r.Scenario == nil {
		return 0, fmt.Errorf("read %s: no scenario", file)
	}
	return r.Scenario.Figures["large_settled_per_s"], nil
}
