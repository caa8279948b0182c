package procs

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

const (
	pipeBytes   = 256 << 10
	setPipeSize = 1031       // F_SETPIPE_SZ
	unlockPty   = 0x40045431 // TIOCSPTLCK
	ptyNumber   = 0x80045430 // TIOCGPTN
	ptyPeer     = 0x5441     // TIOCGPTPEER
)

// stdio is the guest's side of a process's descriptors, and until the fork the child's side too.
type stdio struct {
	input *os.File // the writing end of stdin, or the terminal; nil for /dev/null
	pumps []*pump
	child [3]int
	owned []int // the child's ends that are open here
}

func openStdio(spec *wire.ProcessSpec, user users.User, sharedUID bool) (*stdio, error) {
	s := &stdio{}
	open := s.openPipes
	if spec.Pty != nil {
		open = s.openTerminal
	}
	if err := open(spec, user, sharedUID); err != nil {
		s.closeChildEnds()
		s.closeAll()
		return nil, err
	}
	return s, nil
}

func (s *stdio) openPipes(spec *wire.ProcessSpec, user users.User, sharedUID bool) error {
	if spec.Stdin {
		reading, writing, err := s.pipe("stdin", 0, 1)
		if err != nil {
			return err
		}
		s.child[0], s.input = reading, writing
	} else if err := s.nothing(); err != nil {
		return err
	}
	for stream, name := range []string{"stdout", "stderr"} {
		writing, reading, err := s.pipe(name, 1, 0)
		if err != nil {
			return err
		}
		s.child[stream+1] = writing
		s.pumps = append(s.pumps, newPump(reading, stream))
	}
	if !sharedUID {
		s.giveTo(user)
	}
	return nil
}

// giveTo lets the user open its own ends by name: /dev/stdout and /dev/stderr check the permissions of the pipe.
func (s *stdio) giveTo(user users.User) {
	for _, fd := range s.owned {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFIFO {
			_ = syscall.Fchown(fd, user.UID, user.GID)
		}
	}
}

// pipe makes one; ends[childEnd] goes to the child as it is, the other does not block here.
func (s *stdio) pipe(name string, childEnd, ownEnd int) (int, *os.File, error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return -1, nil, err
	}
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(ends[0]), setPipeSize, pipeBytes)
	_ = syscall.SetNonblock(ends[ownEnd], true)
	s.owned = append(s.owned, ends[childEnd])
	return ends[childEnd], os.NewFile(uintptr(ends[ownEnd]), name), nil
}

func (s *stdio) nothing() error {
	fd, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		reading, writing, err := s.pipe("stdin", 0, 1)
		if err == nil {
			s.child[0] = reading
			_ = writing.Close()
		}
		return err
	}
	s.child[0], s.owned = fd, append(s.owned, fd)
	return nil
}

func (s *stdio) openTerminal(spec *wire.ProcessSpec, user users.User, sharedUID bool) error {
	master, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return wire.Errorf("unavailable_here", "this sandbox has no terminals: /dev/ptmx: %v", err)
	}
	file := os.NewFile(uintptr(master), "terminal")
	s.input, s.pumps = file, []*pump{newPump(file, 0)}
	slave, err := openPeer(master)
	if err != nil {
		return wire.Errorf("unavailable_here", "this sandbox has no terminals: %v", err)
	}
	s.child, s.owned = [3]int{slave, slave, slave}, []int{slave}
	if !sharedUID {
		_ = syscall.Fchown(slave, user.UID, -1)
	}
	rows, cols := spec.Pty.Size()
	return setSize(file, rows, cols)
}

func openPeer(master int) (int, error) {
	var unlocked, number int32
	if err := ioctl(master, unlockPty, unsafe.Pointer(&unlocked)); err != nil {
		return -1, err
	}
	flags := syscall.O_RDWR | syscall.O_NOCTTY | syscall.O_CLOEXEC
	if fd, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(master), ptyPeer, uintptr(flags)); errno == 0 {
		return int(fd), nil
	}
	if err := ioctl(master, ptyNumber, unsafe.Pointer(&number)); err != nil {
		return -1, err
	}
	return syscall.Open(fmt.Sprintf("/dev/pts/%d", number), flags, 0)
}

func ioctl(fd int, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

// setSize tells the terminal and, by SIGWINCH, who is in its foreground.
func setSize(terminal *os.File, rows, cols uint16) error {
	size := [4]uint16{rows, cols}
	return control(terminal, func(fd int) error { return ioctl(fd, syscall.TIOCSWINSZ, unsafe.Pointer(&size)) })
}

func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}

func (s *stdio) closeChildEnds() {
	for _, fd := range s.owned {
		_ = syscall.Close(fd)
	}
	s.owned = nil
}

// closeAll is for a process that never started.
func (s *stdio) closeAll() {
	if s.input != nil {
		_ = s.input.Close()
	}
	for _, pump := range s.pumps {
		_ = pump.file.Close()
	}
}

func (s *stdio) pump(p *Process) {
	for _, pump := range s.pumps {
		go pump.run(p)
	}
}
