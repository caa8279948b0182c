package output

import (
	"bytes"
	"testing"
)

func pattern(from, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte((from + i) * 7 / 3)
	}
	return out
}

// drain reads to the end of what is there and returns stdout and how much of it was lost.
func drain(r *Reader) (data []byte, lost uint64) {
	buf := make([]byte, 1000)
	for {
		event, ok, _ := r.Next(buf)
		if !ok {
			return data, lost
		}
		lost += event.Lost
		data = append(data, buf[:event.N]...)
	}
}

func TestRingKeepsTheNewestBytes(t *testing.T) {
	for _, size := range []int{100, 3000, smallBytes, smallBytes + 4096, 1 << 20} {
		for _, total := range []int{0, 1, 99, 100, 101, smallBytes - 1, smallBytes, smallBytes + 1, 3*size + 17} {
			l := NewLog(size)
			for written := 0; written < total; {
				n := min(total-written, 37+written%5000)
				l.Write(0, pattern(written, n))
				written += n
			}
			reader := l.Open(0, 0, false)
			data, lost := drain(reader)
			reader.Close()
			kept := min(size, total)
			if len(data) != kept || lost != uint64(total-kept) || !bytes.Equal(data, pattern(total-kept, kept)) {
				t.Fatalf("size %d total %d: kept %d lost %d", size, total, len(data), lost)
			}
			l.Drop()
		}
	}
}

func TestSmallRingLargerThanItsStart(t *testing.T) {
	l := NewLog(smallBytes + 1)
	l.Write(0, pattern(0, smallBytes-1))
	l.Write(0, pattern(smallBytes-1, 4))
	data, lost := drain(l.Open(0, 0, false))
	if lost != 2 || !bytes.Equal(data, pattern(2, smallBytes+1)) {
		t.Fatalf("lost %d of %d", lost, len(data))
	}
}

func TestWriterWaitsForAnAttachedReaderAndNotForNone(t *testing.T) {
	l := NewLog(1000)
	l.Write(0, pattern(0, 5000))
	reader := l.Open(-1000, 0, true)
	written := make(chan struct{})
	go func() { l.Write(0, pattern(5000, 10000)); l.Finish(); close(written) }()
	var data []byte
	buf := make([]byte, 333)
	for {
		event, ok, over := reader.Next(buf)
		if over {
			break
		}
		if !ok {
			<-reader.Wake()
			continue
		}
		if event.Lost != 0 {
			t.Fatalf("lost %d", event.Lost)
		}
		data = append(data, buf[:event.N]...)
	}
	<-written
	if !bytes.Equal(data, pattern(4000, 11000)) {
		t.Fatalf("%d bytes differ", len(data))
	}
}

func TestClosingTheReaderFreesTheWriter(t *testing.T) {
	l := NewLog(1000)
	reader := l.Open(0, 0, true)
	written := make(chan struct{})
	go func() { l.Write(1, make([]byte, 5000)); close(written) }()
	<-reader.Wake()
	reader.Close()
	<-written
	if _, stderr := l.Totals(); stderr != 5000 {
		t.Fatal(stderr)
	}
}

func TestBothStreamsGetTheirTurn(t *testing.T) {
	l := NewLog(1 << 20)
	l.Write(0, make([]byte, 5000))
	l.Write(1, make([]byte, 5000))
	reader := l.Open(0, 0, false)
	defer reader.Close()
	first, _, _ := reader.Next(make([]byte, 10))
	second, _, _ := reader.Next(make([]byte, 10))
	if first.Stream == second.Stream {
		t.Fatal("one stream starves the other")
	}
}

func TestFinishedLogTakesNothing(t *testing.T) {
	l := NewLog(1000)
	l.Write(0, []byte("x"))
	l.Finish()
	l.Write(0, []byte("y"))
	if stdout, _ := l.Totals(); stdout != 1 {
		t.Fatal(stdout)
	}
}
