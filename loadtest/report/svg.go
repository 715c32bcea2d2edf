package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The picture's size and its margins, in pixels.
const (
	plotWidth, plotHeight                  = 760, 360
	plotLeft, plotRight, plotTop, plotFoot = 70, 20, 44, 64
	plotTicks                              = 6
)

// plotColours tell series apart, for those too who see few colours.
var plotColours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"}

// SVG draws the plot as a picture that needs nothing else.
func (p *Plot) SVG() string {
	x, y := p.axes()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui,sans-serif" font-size="12" fill="#222">`+"\n",
		plotWidth, plotHeight, plotWidth, plotHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	fmt.Fprintf(&b, `<text x="%d" y="18" font-size="14" font-weight="600">%s</text>`+"\n", plotLeft, html.EscapeString(p.Title))
	p.grid(&b, x, y)
	for i, s := range p.Series {
		colour := plotColours[i%len(plotColours)]
		var line strings.Builder
		for _, at := range s.Points {
			fmt.Fprintf(&line, "%.1f,%.1f ", x.place(at[0]), y.place(at[1]))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(line.String()), colour)
		if len(s.Points) <= 60 {
			for _, at := range s.Points {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.place(at[0]), y.place(at[1]), colour)
			}
		}
		left := plotLeft + i*(plotWidth-plotLeft-plotRight)/len(p.Series)
		fmt.Fprintf(&b, `<rect x="%d" y="27" width="12" height="4" fill="%s"/><text x="%d" y="34">%s</text>`+"\n", left, colour, left+17, html.EscapeString(s.Name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// grid draws the axes' lines and words.
func (p *Plot) grid(b *strings.Builder, x, y axis) {
	for _, v := range y.ticks() {
		at := y.place(v)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, at, plotWidth-plotRight, at, plotLeft-6, at+4, tickText(v))
	}
	for _, v := range x.ticks() {
		at := x.place(v)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#eee"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			at, plotTop, at, plotHeight-plotFoot, at, plotHeight-plotFoot+16, tickText(v))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (plotLeft+plotWidth-plotRight)/2, plotHeight-plotFoot+38, html.EscapeString(p.X))
	middle := (plotTop + plotHeight - plotFoot) / 2
	fmt.Fprintf(b, `<text x="14" y="%d" text-anchor="middle" transform="rotate(-90 14 %d)">%s</text>`+"\n", middle, middle, html.EscapeString(p.Y))
}

// axis maps values to pixels.
type axis struct {
	least, most float64
	log         bool
	from, to    float64
}

// axes hold all points. Those that are not logarithmic begin at 0.
func (p *Plot) axes() (x, y axis) {
	x = axis{log: p.LogX, from: plotLeft, to: plotWidth - plotRight}
	y = axis{log: p.LogY, from: plotHeight - plotFoot, to: plotTop}
	for k, a := range []*axis{&x, &y} {
		a.least, a.most = math.Inf(1), 0
		for _, s := range p.Series {
			for _, at := range s.Points {
				if v := at[k]; v > 0 || !a.log {
					a.least, a.most = min(a.least, v), max(a.most, v)
				}
			}
		}
		switch {
		case a.most <= 0:
			a.least, a.most, a.log = 0, 1, false
		case a.log:
			a.least, a.most = math.Pow(10, math.Floor(math.Log10(a.least))), math.Pow(10, math.Ceil(math.Log10(a.most)))
			a.most = max(a.most, a.least*10)
		default:
			a.least = 0
		}
	}
	return x, y
}

// place is a value's pixel.
func (a axis) place(v float64) float64 {
	share := (v - a.least) / (a.most - a.least)
	if a.log {
		share = math.Log(max(v, a.least)/a.least) / math.Log(a.most/a.least)
	}
	return a.from + share*(a.to-a.from)
}

// ticks are round values along the axis.
func (a axis) ticks() (values []float64) {
	if a.log {
		for v := a.least; v <= a.most*1.001; v *= 10 {
			values = append(values, v)
		}
		return values
	}
	step := math.Pow(10, math.Floor(math.Log10(a.most/plotTicks)))
	for _, k := range []float64{1, 2, 5, 10} {
		if a.most/(step*k) <= plotTicks {
			step *= k
			break
		}
	}
	for v := 0.0; v <= a.most*1.001; v += step {
		values = append(values, v)
	}
	return values
}

func tickText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3g k", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}
