package server

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"cloche/guest/internal/procs"
	"cloche/guest/internal/wire"
)

func (s *server) health(w http.ResponseWriter, _ *http.Request) error {
	sandboxID, nonce := s.identity.get()
	reply(w, http.StatusOK, map[string]any{
		"api_version": 1, "guest_version": s.Version, "sandbox_id": wire.Text(sandboxID), "nonce": wire.Text(nonce),
		"pid": os.Getpid(), "uptime_seconds": time.Since(s.Started).Seconds(), "shared_uid": s.Manager.Book.SharedUID,
		"users": s.Manager.Book.Available(), "landlock_abi": s.LandlockABI,
		"transparent_tcp": s.Door != nil && s.Door.Redirect(),
		"tells_refused":   s.Door != nil && s.Door.TellsRefused(),
	})
	return nil
}

func (s *server) session(w http.ResponseWriter, r *http.Request) error {
	var session procs.Session
	if err := decode(w, r, &session); err != nil {
		return err
	}
	if err := s.Manager.SetSession(session); err != nil {
		return err
	}
	s.contexts.SessionChanged()
	return noContent(w)
}

func (s *server) stats(w http.ResponseWriter, _ *http.Request) error {
	var disk syscall.Statfs_t
	_ = syscall.Statfs("/", &disk)
	processes, memory := s.census()
	block := uint64(disk.Bsize)
	reply(w, http.StatusOK, map[string]any{
		"processes": processes, "memory_bytes": memory, "disk_bytes": (disk.Blocks - disk.Bfree) * block,
		"disk_limit_bytes": disk.Blocks * block, "disk_inodes_free": disk.Ffree,
		"output_ring_bytes": s.Manager.RingBytesHeld(), "time": procs.Seconds(time.Now()),
	})
	return nil
}

// census counts the processes that are visible here and adds up their resident memory in bytes, without the guest.
func (s *server) census() (count int, memory uint64) {
	entries, _ := os.ReadDir("/proc")
	self := os.Getpid()
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == self {
			continue
		}
		data, err := os.ReadFile("/proc/" + entry.Name() + "/statm")
		if err != nil {
			continue
		}
		if s.OwnKernel && bytes.HasPrefix(data, []byte("0 ")) {
			continue // a thread of the kernel
		}
		count++
		if fields := strings.Fields(string(data)); len(fields) > 2 {
			resident, _ := strconv.ParseUint(fields[1], 10, 64)
			shared, _ := strconv.ParseUint(fields[2], 10, 64)
			memory += (resident - min(resident, shared)) * uint64(os.Getpagesize())
		}
	}
	return count, memory
}

func (s *server) clock(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Time *float64 `json:"time"`
	}
	if err := decode(w, r, &body); err != nil {
		return err
	}
	if body.Time == nil || !(*body.Time > 0 && *body.Time < 1e11) {
		return wire.InvalidField("time", "time must be UTC seconds since the epoch")
	}
	if !s.OwnKernel {
		return wire.Errorf("unavailable_here", "the clock is the host's: this sandbox shares its kernel")
	}
	now := syscall.NsecToTimeval(int64(*body.Time * 1e9))
	if err := syscall.Settimeofday(&now); err != nil {
		return wire.Errorf("unavailable_here", "the clock cannot be set: %v", err)
	}
	return noContent(w)
}

const (
	minEntropy = 32
	maxEntropy = 4096
	addEntropy = 0x40085203 // RNDADDENTROPY
)

func (s *server) entropy(w http.ResponseWriter, r *http.Request) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEntropy))
	if err != nil || len(data) < minEntropy {
		return wire.Invalid("entropy must be from %d to %d raw bytes", minEntropy, maxEntropy)
	}
	pool, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return wire.Errorf("unavailable_here", "the kernel's pool cannot be opened: %v", err)
	}
	defer pool.Close()
	if s.OwnKernel && credit(pool, data) == nil {
		return noContent(w)
	}
	if _, err := pool.Write(data); err != nil {
		return err
	}
	return noContent(w)
}

func credit(pool *os.File, data []byte) error {
	request := struct {
		bits, size int32
		data       [maxEntropy]byte
	}{bits: int32(len(data) * 8), size: int32(len(data))}
	copy(request.data[:], data)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, pool.Fd(), addEntropy, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *server) shutdown(w http.ResponseWriter, r *http.Request) error {
	body := struct {
		GraceSeconds float64 `json:"grace_seconds"`
	}{5}
	if err := decode(w, r, &body); err != nil {
		return err
	}
	if !(body.GraceSeconds >= 0 && body.GraceSeconds <= 3600) {
		return wire.InvalidField("grace_seconds", "grace_seconds must be from 0 to 3600")
	}
	reply(w, http.StatusAccepted, map[string]any{})
	_ = http.NewResponseController(w).Flush()
	go s.end(time.Duration(body.GraceSeconds * float64(time.Second)))
	return nil
}

// end asks everything to stop, waits at most the grace, and leaves. As PID 1 its own exit kills what is left.
func (s *server) end(grace time.Duration) {
	if s.Machine != nil {
		_ = s.Machine.Thaw() // what is frozen could not obey either
	}
	s.Manager.SignalAll(syscall.SIGTERM)
	s.Manager.SignalAll(syscall.SIGCONT) // a stopped process could not obey
	deadline := time.Now().Add(grace)
	for time.Now().Before(deadline) && s.Manager.Alive() {
		time.Sleep(5 * time.Millisecond)
	}
	s.Manager.SignalAll(syscall.SIGKILL)
	s.Exit(0)
}
