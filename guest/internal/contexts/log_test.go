package contexts

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func line(size int) func(int) []byte {
	return func(seq int) []byte { return finished(text(begin("output", seq), "text", strings.Repeat("x", size))) }
}

type told struct {
	Type string
	Seq  int
	Lost int `json:"lost_events"`
}

func readAll(t *testing.T, r *Reader) (all []told) {
	t.Helper()
	for over := false; !over; {
		var data []byte
		if data, over = r.Next(nil); len(data) == 0 && !over {
			<-r.Wake()
		}
		for _, raw := range bytes.Split(bytes.TrimSpace(data), []byte{'\n'}) {
			var event told
			if len(raw) > 0 {
				if err := json.Unmarshal(raw, &event); err != nil {
					t.Fatal(err)
				}
				all = append(all, event)
			}
		}
	}
	return all
}

func TestWithoutReadersTheOldestAreToldAsGap(t *testing.T) {
	l := newLog(&rings{})
	for range 50 {
		l.append(false, line(1<<20))
	}
	l.append(true, line(1))
	l.finish()
	all := readAll(t, l.open(0, true, func() {}))
	if all[0].Type != "gap" || all[0].Lost != all[0].Seq || all[1].Seq != all[0].Seq+1 || all[len(all)-1].Seq != 51 {
		t.Fatalf("%v", all)
	}
	if later := readAll(t, l.open(50, false, func() {})); len(later) != 1 || later[0].Seq != 51 {
		t.Errorf("%v", later)
	}
	if none := readAll(t, l.open(1000, true, func() {})); len(none) != 0 {
		t.Errorf("%v", none)
	}
	l.drop()
	if left := readAll(t, l.open(0, false, func() {})); len(left) != 2 || left[1].Seq != 51 || l.held() > 1000 {
		t.Errorf("%v", left)
	}
}

func TestWritersWaitForAnAttachedReader(t *testing.T) {
	l := newLog(&rings{})
	reader := l.open(0, true, func() {})
	written := make(chan struct{})
	go func() {
		for range 100 {
			l.append(false, line(1<<20))
		}
		l.append(true, line(1))
		l.finish()
		close(written)
	}()
	all := readAll(t, reader)
	<-written
	if len(all) != 101 {
		t.Errorf("%d events", len(all))
	}
}

func TestAHurriedLogWaitsForNobodyAndKeepsTheEnd(t *testing.T) {
	l := newLog(&rings{})
	reader := l.open(0, true, func() {})
	l.hurry()
	for range 100 {
		l.append(false, line(1<<20))
	}
	l.append(true, line(1))
	l.finish()
	all := readAll(t, reader)
	for i, event := range all {
		if event.Seq != i+1 {
			t.Fatalf("event %d at place %d", event.Seq, i)
		}
	}
	if len(all) < 30 || len(all) > 50 {
		t.Errorf("%d events", len(all))
	}
}

func TestTheLastReaderThatGoesIsToldOnce(t *testing.T) {
	l, gone := newLog(&rings{}), 0
	one, two := l.open(0, true, func() { gone++ }), l.open(0, true, func() { gone++ })
	glance := l.open(0, false, func() { gone++ })
	glance.Close()
	one.Close()
	if gone != 0 {
		t.Error("somebody still reads")
	}
	two.Close()
	two.Close()
	if gone != 1 {
		t.Error(gone)
	}
}
