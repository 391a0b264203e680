package report

import (
	"errors"
	"fmt"
	"html"
	"strings"
)

// Picture geometry, in pixels.
const (
	pictureWidth = 860
	labelWidth   = 250
	barHeight    = 15
	barStep      = barHeight + 3
	groupGap     = 20
	headHeight   = 84
	footHeight   = 46
	figureWidth  = 60  // behind the longest bar
	widest       = 2.0 // ratios beyond are cut, with an arrow
	quiet        = "#6b7885"
)

// colours of peers; they can be told apart in grey too.
var colours = map[string]string{"turnout": "#0b7a75", "haproxy-tuned": "#8da2b5", "nginx": "#c3cfd9", "forward": "#e0b97d"}

// bars are those of one leading figure.
type bars struct {
	title, figure string
	peers         []Peer
	ratios        []Ratio
}

func (g bars) height() int { return max(len(g.ratios)*barStep, 2*16) + groupGap }

// picture is one under way.
type picture struct {
	strings.Builder
	groups  []bars
	top     float64 // largest ratio on the axis
	height  int
	figures strings.Builder // go above all else
}

// SVG draws the leading figure of each workload as bars, with HAProxy = 1.
func (r *Run) SVG() (string, error) {
	p := &picture{top: 1.2, height: headHeight + footHeight}
	p.collect(r)
	if len(p.groups) == 0 {
		return "", errors.New("no figure that both HAProxy and another peer have: nothing to draw")
	}
	p.line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Cost relative to HAProxy" font-family="system-ui, -apple-system, 'Segoe UI', sans-serif" font-size="13" fill="#1f2a33">`,
		pictureWidth, p.height, pictureWidth, p.height)
	p.line(`<rect width="%d" height="%d" rx="8" fill="#fff"/>`, pictureWidth, p.height)
	p.line(`<text x="20" y="30" font-size="17" font-weight="600">Cost relative to HAProxy (= 1.0); shorter is better</text>`)
	p.legend()
	p.axis()
	y := headHeight + 6
	for _, g := range p.groups {
		p.group(g, y)
		y += g.height()
	}
	p.line(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#c0392b" stroke-width="1.5" stroke-dasharray="4 3"/>`,
		p.x(1), headHeight, p.x(1), p.height-footHeight)
	p.WriteString(p.figures.String())
	p.line(`<text x="20" y="%d" font-size="11" fill="%s">%s</text>`, p.height-footHeight/2+4, quiet, html.EscapeString(r.caption()))
	p.line("</svg>")
	return p.String(), nil
}

func (p *picture) collect(r *Run) {
	for _, w := range r.Works {
		for _, m := range w.Metrics {
			if !m.Lead {
				continue
			}
			g := bars{title: w.Title, figure: m.Title}
			for _, peer := range r.Peers {
				if ratio, ok := m.Ratio(peer.Name, "haproxy"); ok && peer.Name != "haproxy" {
					g.peers = append(g.peers, peer)
					g.ratios = append(g.ratios, ratio)
					p.top = min(max(p.top, ratio.Median*1.05), widest)
				}
			}
			if len(g.ratios) > 0 {
				p.groups = append(p.groups, g)
				p.height += g.height()
			}
		}
	}
}

func (p *picture) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *picture) x(ratio float64) float64 {
	return labelWidth + ratio*(pictureWidth-labelWidth-figureWidth)/p.top
}

func (p *picture) legend() {
	x, seen := 20, map[string]bool{}
	for _, g := range p.groups {
		for _, peer := range g.peers {
			if seen[peer.Name] {
				continue
			}
			seen[peer.Name] = true
			p.line(`<rect x="%d" y="45" width="12" height="12" rx="2" fill="%s"/><text x="%d" y="56">%s</text>`,
				x, colour(peer.Name), x+18, html.EscapeString(peer.Title))
			x += 18 + 8*len(peer.Title) + 24
		}
	}
}

func (p *picture) axis() {
	for tick := 0.0; tick <= p.top; tick += 0.5 {
		p.line(`<text x="%.1f" y="%d" font-size="11" fill="%s" text-anchor="middle">%.1f</text>`, p.x(tick), headHeight-6, quiet, tick)
		p.line(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#e6ebef"/>`, p.x(tick), headHeight, p.x(tick), p.height-footHeight)
	}
}

func (p *picture) group(g bars, y int) {
	p.line(`<text x="%d" y="%d" text-anchor="end" font-weight="600">%s</text>`, labelWidth-12, y+12, html.EscapeString(g.title))
	p.line(`<text x="%d" y="%d" text-anchor="end" font-size="11" fill="%s">%s</text>`, labelWidth-12, y+27, quiet, html.EscapeString(g.figure))
	for i, ratio := range g.ratios {
		end, arrow := ratio.Median, ""
		if end > p.top {
			end, arrow = p.top, "→ "
		}
		p.line(`<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"><title>%s: %.2f (%.2f–%.2f)</title></rect>`,
			labelWidth, y, max(p.x(end)-labelWidth, 1), barHeight, colour(g.peers[i].Name), html.EscapeString(g.peers[i].Title),
			ratio.Median, ratio.Min, ratio.Max)
		fmt.Fprintf(&p.figures, `<text x="%.1f" y="%d" font-size="12" paint-order="stroke" stroke="#fff" stroke-width="3">%s%.2f</text>`+"\n", p.x(end)+5, y+barHeight-3, arrow, ratio.Median)
		y += barStep
	}
}

func (r *Run) caption() string {
	repetitions := 0
	for _, w := range r.Works {
		for _, m := range w.Metrics {
			for _, s := range m.Values {
				repetitions = max(repetitions, len(s.Values))
			}
		}
	}
	text := fmt.Sprintf("median of %d interleaved runs, %d cores, Linux %s, %s",
		repetitions, r.Machine.Cores, r.Machine.Kernel, r.Started.Format("2006-01-02"))
	if r.Commit != "" {
		text += ", commit " + r.Commit[:min(len(r.Commit), 12)]
	}
	if r.Dirty {
		text += " with changes"
	}
	if repetitions < 5 {
		text += " (a quick run: a hint, no more)"
	}
	return text
}

func colour(peer string) string {
	if c, ok := colours[peer]; ok {
		return c
	}
	return "#b9a3c9"
}
