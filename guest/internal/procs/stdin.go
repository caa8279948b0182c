package procs

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"cloche/guest/internal/wire"
)

// stdin is the writing end of a process's input and how many bytes it has taken.
type stdin struct {
	turn     chan struct{} // held by the one request that writes
	mu       sync.Mutex
	file     *os.File
	terminal bool
	closed   bool
	total    int64
	writing  context.CancelFunc
}

func (s *stdin) open(file *os.File, terminal bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn = make(chan struct{}, 1)
	s.file, s.terminal, s.closed = file, terminal, file == nil
}

// close is for a process that has ended. A terminal stays open for its reader.
func (s *stdin) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.terminal {
		_ = s.file.SetWriteDeadline(time.Now())
		return
	}
	_ = s.file.Close()
}

func errStdinClosed() *wire.Error {
	return wire.Errorf("wrong_state", "the process takes no input: it has ended, or its stdin is closed or was not asked for")
}

// WriteStdin streams body into the process and returns how many bytes it has taken since its start. With offset ≥ 0,
// body begins at that place: what was taken before is skipped, and a request that is stuck in the same process gives
// way, since its client has evidently come back. abort must end a read of body that blocks.
func (p *Process) WriteStdin(ctx context.Context, body io.Reader, offset int64, abort func()) (int64, error) {
	s := &p.stdin
	ctx, cancel := context.WithCancel(ctx)
	if err := s.take(ctx, offset >= 0); err != nil {
		cancel()
		return 0, err
	}
	defer func() { <-s.turn }()
	stop := context.AfterFunc(ctx, abort)
	defer func() { stop(); cancel() }()
	s.mu.Lock()
	s.writing = cancel
	total, closed := s.total, s.closed
	s.mu.Unlock()
	if closed {
		return 0, errStdinClosed()
	}
	if offset > total {
		return 0, wire.InvalidField("offset", "offset %d is beyond the %d bytes taken so far", offset, total)
	}
	if offset >= 0 {
		if _, err := io.CopyN(io.Discard, body, total-offset); err != nil {
			return total, nilAtEOF(err)
		}
	}
	return s.copy(ctx, body)
}

func nilAtEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return wire.Invalid("the request body broke off: %v", err)
}

func (s *stdin) take(ctx context.Context, preempt bool) error {
	s.mu.Lock()
	turn, cancel := s.turn, s.writing
	s.mu.Unlock()
	if turn == nil {
		return errStdinClosed()
	}
	if preempt && cancel != nil {
		cancel()
	}
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return wire.Errorf("wrong_state", "the request was given up")
	}
}

// copy writes until the body ends. A cancelled ctx ends a write that blocks; what was taken until then counts.
func (s *stdin) copy(ctx context.Context, body io.Reader) (int64, error) {
	_ = s.file.SetWriteDeadline(time.Time{})
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(interrupted); _ = s.file.SetWriteDeadline(time.Now()) })
	defer func() {
		if !stop() { // it must not hit the writer that comes next
			<-interrupted
		}
	}()
	buf := chunks.Get().(*[chunkBytes]byte)
	defer chunks.Put(buf)
	for {
		n, readErr := body.Read(buf[:])
		written, err := s.file.Write(buf[:n])
		s.mu.Lock()
		s.total += int64(written)
		total := s.total
		s.mu.Unlock()
		if err != nil {
			return total, writeProblem(err)
		}
		if readErr != nil {
			return total, nilAtEOF(readErr)
		}
	}
}

func writeProblem(err error) error {
	switch {
	case errors.Is(err, syscall.EPIPE), errors.Is(err, os.ErrClosed), errors.Is(err, syscall.EIO):
		return errStdinClosed()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return wire.Errorf("wrong_state", "the write gave way to a newer one, or the process has ended")
	}
	return err
}

// CloseStdin ends the input after what was written; on a terminal it types the end-of-file character.
func (p *Process) CloseStdin() error {
	s := &p.stdin
	if err := s.take(context.Background(), false); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errStdinClosed()
	}
	if s.terminal {
		_ = s.file.SetWriteDeadline(time.Now().Add(time.Second))
		_, err := s.file.Write([]byte{endOfFile(s.file)})
		return err
	}
	s.closed = true
	return s.file.Close()
}

func endOfFile(terminal *os.File) byte {
	var settings syscall.Termios
	err := control(terminal, func(fd int) error { return ioctl(fd, syscall.TCGETS, unsafe.Pointer(&settings)) })
	if err != nil {
		return 4
	}
	return settings.Cc[syscall.VEOF]
}
