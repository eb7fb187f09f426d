package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// A ruleResult is a row of the table that tercet compare prints.
type ruleResult struct {
	Rule    string    `json:"rule"`
	Recalls []float64 `json:"recall_at_1"` // by seed, after the last step
	Mean    float64   `json:"mean"`
	Std     float64   `json:"std"`      // of one seed
	Active  float64   `json:"active"`   // share of the triplets that had a loss
	Rows    int64     `json:"triplets"` // of all seeds
}

// A comparisonResult is what tercet compare prints.
type comparisonResult struct {
	Images  int          `json:"images"`
	Classes int          `json:"classes"`
	Held    int          `json:"held_out_images"`
	Steps   int          `json:"steps"`
	Start   float64      `json:"recall_at_1_untrained"`
	Rules   []ruleResult `json:"rules"`
}

// result sums the runs up.
func (c *comparison) result(rules []string, runs []*training) comparisonResult {
	res := comparisonResult{Images: len(c.labels), Classes: c.classes, Held: len(c.held), Steps: c.steps}
	for _, r := range runs {
		res.Start += r.curve[0].recall / float64(len(runs))
	}
	for _, name := range rules {
		row := ruleResult{Rule: name}
		for _, r := range runs {
			if r.rule != name {
				continue
			}
			row.Recalls = append(row.Recalls, r.last())
			row.Active += r.active / float64(c.seeds)
			row.Rows += r.triplets
		}
		row.Mean, row.Std = meanStd(row.Recalls)
		res.Rules = append(res.Rules, row)
	}
	return res
}

// meanStd are the mean and the standard deviation of a sample.
func meanStd(v []float64) (mean, std float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		std += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(std / float64(max(len(v)-1, 1)))
}

func (res comparisonResult) print(w io.Writer) error {
	fmt.Fprintf(w, "recall@1 on %s images of classes that no step has seen, of %s images in %d classes; %.3f before training\n\n",
		count(int64(res.Held)), count(int64(res.Images)), res.Classes, res.Start)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"triplets"}
	for seed := range res.Rules[0].Recalls {
		head = append(head, fmt.Sprintf("seed %d", seed+1))
	}
	fmt.Fprintln(t, strings.Join(append(head, "mean ± std", "with a loss", ""), "\t"))
	for _, r := range res.Rules {
		cells := []string{r.Rule}
		for _, v := range r.Recalls {
			cells = append(cells, fmt.Sprintf("%.3f", v))
		}
		cells = append(cells, fmt.Sprintf("%.3f ± %.3f", r.Mean, r.Std), fmt.Sprintf("%.0f %%", 100*r.Active), "")
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	first := res.Rules[0]
	for _, r := range res.Rules[1:] {
		ahead := 0
		for seed, v := range r.Recalls {
			if v > first.Recalls[seed] {
				ahead++
			}
		}
		fmt.Fprintf(w, "\n%s − %s: %+.3f on average, ahead with %d of %d seeds", r.Rule, first.Rule, r.Mean-first.Mean, ahead, len(r.Recalls))
	}
	_, err := fmt.Fprintln(w)
	return err
}
