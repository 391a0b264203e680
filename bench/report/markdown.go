package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Markdown is the page for people.
func (r *Run) Markdown() string {
	var b strings.Builder
	r.writeHead(&b)
	r.writeWorks(&b)
	for _, t := range r.Tables {
		t.write(&b)
	}
	if len(r.Warnings) > 0 {
		b.WriteString("\n## Warnings\n\n")
		for _, w := range r.Warnings {
			fmt.Fprintf(&b, "- %s\n", w)
		}
	}
	r.writeConfigs(&b)
	return b.String()
}

func (r *Run) writeHead(b *strings.Builder) {
	commit := r.Commit
	if commit == "" {
		commit = "unknown"
	}
	if r.Dirty {
		commit += ", with uncommitted changes"
	}
	m := r.Machine
	fmt.Fprintf(b, "# Side by side: %s\n\n", r.Started.UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(b, "- command: `%s` (took %s)\n- commit: %s\n", r.Command, r.Took, commit)
	fmt.Fprintf(b, "- machine: %s, %d cores, %d MiB, %s, Linux %s, %s\n", m.Processor, m.Cores, m.MemoryMiB, m.System, m.Kernel, m.Go)
	for _, p := range r.Peers {
		version := p.Version
		if version != "" {
			version = " (" + version + ")"
		}
		fmt.Fprintf(b, "- %s%s: %s\n", p.Title, version, p.About)
	}
	for _, name := range sortedKeys(r.Missing) {
		fmt.Fprintf(b, "- **missing** %s\n", firstLine(r.Missing[name]))
	}
	var settings []string
	for _, k := range sortedKeys(r.Settings) {
		settings = append(settings, k+" "+r.Settings[k])
	}
	fmt.Fprintf(b, "- settings: %s\n", strings.Join(settings, "; "))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (r *Run) writeWorks(b *strings.Builder) {
	if len(r.Works) == 0 {
		return
	}
	var shown []Peer // those with any value
	for _, p := range r.Peers {
		if slices.ContainsFunc(r.Works, func(w *Work) bool { return w.has(p.Name) }) {
			shown = append(shown, p)
		}
	}
	if len(shown) == 0 {
		return
	}
	subject, bases := shown[0], basesOf(shown)
	b.WriteString("\n## Figures\n\nMedian over the repetitions (smallest to largest). CPU is user and system time of the proxy, all threads and\n" +
		"processes. A ratio is taken within each repetition; then median (smallest to largest). ↓ less is better, ↑ more is.\n\n")
	b.WriteString("| work | figure |")
	for _, p := range shown {
		fmt.Fprintf(b, " %s |", p.Title)
	}
	for _, p := range bases {
		fmt.Fprintf(b, " %s : %s |", subject.Title, p.Title)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---:|", len(shown)+len(bases)) + "\n")
	for _, w := range r.Works {
		for i, m := range w.visible() {
			title := ""
			if i == 0 {
				title = w.Title
			}
			m.writeRow(b, title, shown, subject, bases)
		}
	}
}

// basesOf are those of Bases that the first peer can be compared with.
func basesOf(shown []Peer) []Peer {
	var bases []Peer
	for _, p := range shown[1:] {
		if slices.Contains(Bases, p.Name) {
			bases = append(bases, p)
		}
	}
	return bases
}

func (w *Work) has(peer string) bool {
	return slices.ContainsFunc(w.Metrics, func(m *Metric) bool { return m.Values[peer] != nil })
}

func (w *Work) visible() []*Metric {
	return slices.DeleteFunc(slices.Clone(w.Metrics), func(m *Metric) bool { return m.Hidden })
}

func (m *Metric) writeRow(b *strings.Builder, title string, shown []Peer, subject Peer, bases []Peer) {
	arrow := "↓"
	if m.Higher {
		arrow = "↑"
	}
	figure := fmt.Sprintf("%s, %s %s", m.Title, m.Unit, arrow)
	if m.Lead {
		figure = "**" + figure + "**"
	}
	fmt.Fprintf(b, "| %s | %s |", title, figure)
	for _, p := range shown {
		cell := "–"
		if s := m.Values[p.Name]; s != nil && len(s.Values) > 0 {
			lowest, highest := s.Spread()
			cell = Spread(s.Median(), lowest, highest)
		}
		fmt.Fprintf(b, " %s |", cell)
	}
	for _, p := range bases {
		cell := "–"
		if ratio, ok := m.Ratio(subject.Name, p.Name); ok {
			cell = fmt.Sprintf("%.2f (%.2f–%.2f)", ratio.Median, ratio.Min, ratio.Max)
			if m.Lead {
				cell = "**" + cell + "**"
			}
		}
		fmt.Fprintf(b, " %s |", cell)
	}
	b.WriteByte('\n')
}

// Spread is a median with the smallest and the largest value.
func Spread(median, lowest, highest float64) string {
	return fmt.Sprintf("%s (%s–%s)", Figure(median), Figure(lowest), Figure(highest))
}

// Figure is a number as people read it: three digits that matter, thousands set apart.
func Figure(v float64) string {
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return "–"
	case v == 0:
		return "0"
	case a >= 1000:
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

func grouped(digits string) string {
	sign := strings.TrimRight(digits, "0123456789")
	digits = digits[len(sign):]
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

func (t *Table) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n", t.Title)
	if t.Note != "" {
		fmt.Fprintf(b, "%s\n\n", t.Note)
	}
	fmt.Fprintf(b, "| %s |\n|---|%s\n", strings.Join(t.Columns, " | "), strings.Repeat("---:|", len(t.Columns)-1))
	for _, row := range t.Rows {
		var cells []string
		for _, c := range row {
			cells = append(cells, cell(c))
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
}

func cell(c any) string {
	switch c := c.(type) {
	case nil:
		return "–"
	case int:
		return grouped(strconv.Itoa(c))
	case float64:
		return Figure(c)
	}
	return fmt.Sprint(c)
}

func (r *Run) writeConfigs(b *strings.Builder) {
	if len(r.Configs) == 0 {
		return
	}
	b.WriteString("\n## Configurations, as generated\n")
	for _, c := range r.Configs {
		fmt.Fprintf(b, "\n<details><summary>%s, %s</summary>\n\n```\n%s```\n\n</details>\n", c.Peer, c.Work, c.Text)
	}
}
