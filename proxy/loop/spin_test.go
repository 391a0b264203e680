package loop

import "testing"

// look runs one wait of a loop for which looks bear fruit or not, and returns how many it took.
func look(s *spin, fruit bool) (n int) {
	for range s.tries() {
		n++
		if s.learn(fruit); fruit {
			break
		}
	}
	return n
}

func TestSpin_LooksOnlyWhileThatBearsFruit(t *testing.T) {
	var s spin
	total := 0
	for range 160 { // woken now and then, and never anything more to find
		total += look(&s, false)
	}
	if total != 10 {
		t.Errorf("%d looks before 160 lonely waits, want 10", total)
	}
	for range 2 * spinProbe { // busy
		look(&s, true)
	}
	if s.credit != spinMax {
		t.Errorf("credit %d after busy rounds, want %d", s.credit, spinMax)
	}
	for total = 0; s.credit > 0; {
		total += look(&s, false)
	}
	if total > spinMax {
		t.Errorf("the end of a busy time cost %d looks, the bound is %d", total, spinMax)
	}
}

func TestSpin_BreaksEvenAtOneFruitInThree(t *testing.T) {
	for _, c := range []struct {
		every int // one look in so many bears fruit
		stays bool
	}{{2, true}, {3, true}, {6, false}} {
		s := spin{credit: spinMax}
		for i := range 3000 {
			s.learn(i%c.every == c.every-1)
			if s.credit == 0 && c.stays {
				t.Errorf("gave up at one in %d", c.every)
				break
			}
		}
		if s.credit > spinMaiden && !c.stays {
			t.Errorf("still credit %d at one in %d", s.credit, c.every)
		}
	}
}
