package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// plotColours are those of the rules, in their order: they differ in lightness too.
var plotColours = []string{"#0b5cad", "#e07b00", "#2e8540", "#b0206c", "#5b4fc7", "#7a6a00", "#008a8a", "#555555"}

// plotCurves draws the curve of each rule, the mean over the seeds, with a band
// from the lowest to the highest, as an SVG picture.
func plotCurves(w io.Writer, rules []string, runs []*training) error {
	const width, height, left, right, top, bottom = 720, 420, 64, 150, 24, 52
	low, high, last := math.Inf(1), math.Inf(-1), 1
	for _, r := range runs {
		for _, p := range r.curve {
			low, high, last = min(low, p.recall), max(high, p.recall), max(last, p.step)
		}
	}
	low, high = math.Floor(low*20)/20, math.Ceil(high*20)/20
	if high-low < 0.05 {
		high = low + 0.05
	}
	x := func(step int) float64 { return left + float64(step)/float64(last)*(width-left-right) }
	y := func(v float64) float64 { return top + (high-v)/(high-low)*(height-top-bottom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	ticks := int(math.Round((high - low) / 0.05))
	stride := (ticks + 7) / 8
	for i := 0; i <= ticks; i += stride {
		v := low + float64(i)*0.05
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.2f</text>`+"\n", left, y(v), width-right, left-8, y(v)+4, v)
	}
	for i := range 5 {
		step := last * i / 4
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(step), height-bottom+20, step)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">steps</text>`+"\n", (left+width-right)/2, height-10)
	fmt.Fprintf(&b, `<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">recall@1 on classes held out</text>`+"\n", (top+height-bottom)/2)
	var labels []float64 // where the names stand: no two on one another
	for i, name := range rules {
		colour := plotColours[i%len(plotColours)]
		var mean, upper, lower []string
		var end float64
		for at, p := range curveOf(runs, name) {
			lo, hi, sum, n := math.Inf(1), math.Inf(-1), 0.0, 0.0
			for _, r := range runs {
				if r.rule == name {
					v := r.curve[at].recall
					lo, hi, sum, n = min(lo, v), max(hi, v), sum+v, n+1
				}
			}
			end = sum / n
			mean = append(mean, fmt.Sprintf("%.1f,%.1f", x(p.step), y(end)))
			upper = append(upper, fmt.Sprintf("%.1f,%.1f", x(p.step), y(hi)))
			lower = append([]string{fmt.Sprintf("%.1f,%.1f", x(p.step), y(lo))}, lower...)
		}
		fmt.Fprintf(&b, `<polygon points="%s %s" fill="%s" fill-opacity="0.15"/>`+"\n", strings.Join(upper, " "), strings.Join(lower, " "), colour)
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5"/>`+"\n", strings.Join(mean, " "), colour)
		labels = append(labels, apartFrom(labels, y(end)+4))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s">%s %.3f</text>`+"\n", width-right+8, labels[i], colour, name, end)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// apartFrom is the place nearest to y that is a line away from the others.
func apartFrom(others []float64, y float64) float64 {
	const line = 15
	free := func(y float64) bool {
		return !slices.ContainsFunc(others, func(o float64) bool { return math.Abs(o-y) < line })
	}
	for off := 0.0; ; off++ {
		switch {
		case free(y + off):
			return y + off
		case free(y - off):
			return y - off
		}
	}
}

// curveOf is the first curve of a rule: all have points after the same steps.
func curveOf(runs []*training, rule string) []point {
	for _, r := range runs {
		if r.rule == rule {
			return r.curve
		}
	}
	return nil
}
