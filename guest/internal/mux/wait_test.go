package mux

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

func TestWaitReturnsWhenThereIsSomethingToRead(t *testing.T) {
	b := newBox(t)
	h := b.connect()
	h.say(open, 1, firstWindow)
	c := b.accept()
	_ = c.SetReadDeadline(time.Now())
	if err := c.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	waited := make(chan error)
	go func() { waited <- c.Wait() }()
	h.give(1, "hello")
	if err := <-waited; err != nil || read(t, c, 5) != "hello" {
		t.Fatal(err)
	}
	go func() { waited <- c.Wait() }()
	h.say(fin, 1, 0)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := c.Wait(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}
