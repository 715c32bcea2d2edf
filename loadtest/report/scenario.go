package report

import "strings"

// Scenario is what a run found out about a scenario's question.
type Scenario struct {
	Name string `json:"name"`
	// Figures by name; the unit is the name's end.
	Figures map[string]float64 `json:"figures"`
	// Missed are the goals that were not reached. A broken promise is none of them.
	Missed []string `json:"missed,omitempty"`
	// Plots show more than the figures.
	Plots []Plot `json:"plots,omitempty"`
	// Lines are for people.
	Lines []string `json:"-"`
}

// Plot is a picture of lines.
type Plot struct {
	Title string `json:"title"`
	// X and Y name the axes, with their units; LogX and LogY say that they are logarithmic.
	X      string   `json:"x"`
	Y      string   `json:"y"`
	LogX   bool     `json:"log_x,omitempty"`
	LogY   bool     `json:"log_y,omitempty"`
	Series []Series `json:"series"`
}

// Series is a line of a Plot; its points come in the order of x.
type Series struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// Set notes a figure, with three decimals.
func (s *Scenario) Set(name string, value float64) {
	if s.Figures == nil {
		s.Figures = make(map[string]float64)
	}
	s.Figures[name] = round(value)
}

// Add puts a scenario's result into the report; nil adds nothing. A goal that was
// missed shows in the verdict, after what was violated.
func (r *Report) Add(s *Scenario) {
	if s == nil {
		return
	}
	r.Scenario = s
	if len(s.Missed) == 0 {
		return
	}
	missed := strings.Join(s.Missed, ", ")
	if r.OK() {
		r.Verdict = missed
		return
	}
	r.Verdict += ", " + missed
}
