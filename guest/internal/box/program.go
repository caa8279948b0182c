package box

import (
	"strings"
	"syscall"

	"cloche/guest/internal/seccomp"
)

const (
	// below are this process's own descriptors, above is where they wait to be placed
	lowestGiven, highestGiven = 10, 99
	programBacklog            = 8
	programOpenFiles          = 512
	longestSocketName         = 64
	kvmMajor, kvmMinor        = 10, 232
)

// Program is run instead of the guest, in the same box: a virtual machine monitor, whose machine has a guest of its own.
// It reaches no path of the host and gets what it needs as open descriptors. Its standard output and error are its console.
type Program struct {
	Argv      []string          `json:"argv"`
	Env       map[string]string `json:"env"`
	Files     []ProgramFile     `json:"files"`
	Listen    []ProgramSocket   `json:"listen"`
	ConsoleFD int               `json:"console_fd"` // 0: only the standard two
	// FileBytes is the size beyond which it cannot make any file grow that it may write, 0 for as it likes.
	FileBytes uint64 `json:"file_bytes"`
	Sockets   bool   `json:"sockets"` // it makes unix sockets of its own, where it may write
}

// ProgramFile is a regular file, opened with the supervisor's rights. Device: it is /dev/kvm, which the box's ids may not
// open, and nothing else.
type ProgramFile struct {
	Path   string `json:"path"`
	Write  bool   `json:"write"`
	Device bool   `json:"device"`
	FD     int    `json:"fd"`
}

// ProgramSocket is a listening unix socket in the run directory.
type ProgramSocket struct {
	Name string `json:"name"`
	FD   int    `json:"fd"`
}

// numbers are the descriptors as the program knows them; what is given comes in the same order.
func (p *Program) numbers() (numbers []int) {
	for _, file := range p.Files {
		numbers = append(numbers, file.FD)
	}
	for _, socket := range p.Listen {
		numbers = append(numbers, socket.FD)
	}
	if p.ConsoleFD != 0 {
		numbers = append(numbers, p.ConsoleFD)
	}
	return append(numbers, 1, 2)
}

func (p *Program) check() error {
	if p == nil {
		return nil
	}
	if len(p.Argv) == 0 || !strings.HasPrefix(p.Argv[0], "/") {
		return stagef("program", "argv must begin with a path inside the box")
	}
	taken := map[int]bool{}
	for _, number := range p.numbers() {
		standard := number == 1 || number == 2
		if taken[number] || (!standard && (number < lowestGiven || number > highestGiven)) {
			return stagef("program", "descriptor %d: each needs its own from %d to %d", number, lowestGiven, highestGiven)
		}
		taken[number] = true
	}
	names := map[string]bool{"guest.sock": true, "control.sock": true}
	for _, socket := range p.Listen {
		plain := strings.HasSuffix(socket.Name, ".sock") && !strings.ContainsAny(socket.Name, "/\x00")
		if !plain || len(socket.Name) > longestSocketName || names[socket.Name] {
			return stagef("program", "%q cannot be the name of a socket", socket.Name)
		}
		names[socket.Name] = true
	}
	return nil
}

func (p *Program) filter() []seccomp.Instruction {
	if p.Sockets {
		return seccomp.SocketVMM()
	}
	return seccomp.VMM()
}

// limitFiles: a monitor that was taken over would fill the host's disk through the file of its machine's. Descriptors
// that it puts into a socket and nobody takes count for all processes of its id: with more of them than the node may have
// open, and with the same id, the node could give none to anybody.
func (p *Program) limitFiles() error {
	const fsize, nofile = 1, 7
	if p == nil {
		return nil
	}
	var now syscall.Rlimit
	if err := syscall.Getrlimit(nofile, &now); err != nil {
		return err
	}
	most := min(now.Max, programOpenFiles)
	if err := syscall.Setrlimit(nofile, &syscall.Rlimit{Cur: most, Max: most}); err != nil || p.FileBytes == 0 {
		return err
	}
	return syscall.Setrlimit(fsize, &syscall.Rlimit{Cur: p.FileBytes, Max: p.FileBytes})
}

func (p *Program) environment() (env []string) {
	for key, value := range p.Env {
		env = append(env, key+"="+value)
	}
	return env
}

// place moves what was given to its numbers. All of it goes out of their way first, so none overwrites another.
func (p *Program) place(given []int) error {
	waiting := make([]int, len(given))
	for i, fd := range given {
		moved, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, highestGiven+1)
		if e != 0 {
			return e
		}
		waiting[i] = int(moved)
	}
	for i, number := range p.numbers() {
		// without close-on-exec; the two standard ones come last and are the console again
		if err := syscall.Dup3(waiting[min(i, len(waiting)-1)], number, 0); err != nil {
			return err
		}
	}
	return nil
}

// sockets are the names in the run directory by which the box is reached.
func (p *Plan) sockets() (names []string) {
	if p.Program == nil {
		return []string{"guest.sock"}
	}
	for _, socket := range p.Program.Listen {
		names = append(names, socket.Name)
	}
	return names
}

// openGiven opens what the program gets, in the order of its numbers. The working directory is the run directory.
func (s *supervisor) openGiven(program *Program) error {
	for _, file := range program.Files {
		fd, err := file.open()
		if err != nil {
			return stage("open "+file.Path, err)
		}
		s.given = append(s.given, fd)
	}
	for _, socket := range program.Listen {
		fd, err := listenUnix(socket.Name, programBacklog)
		if err != nil {
			return stage("socket "+socket.Name, err)
		}
		s.given = append(s.given, fd)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return stage("console", err)
	}
	s.console = &console{fd: pair[0]}
	s.given = append(s.given, pair[1])
	return nil
}

func (f *ProgramFile) open() (int, error) {
	flags := syscall.O_RDONLY
	if f.Write {
		flags = syscall.O_RDWR
	}
	// a FIFO would wait for its other end
	fd, err := syscall.Open(f.Path, flags|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return -1, err
	}
	var st syscall.Stat_t
	err = syscall.Fstat(fd, &st)
	if err == nil && !f.expected(&st) {
		err = syscall.EINVAL
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (f *ProgramFile) expected(st *syscall.Stat_t) bool {
	if f.Device {
		return isKVM(st)
	}
	return st.Mode&syscall.S_IFMT == syscall.S_IFREG
}

func isKVM(st *syscall.Stat_t) bool {
	return st.Mode&syscall.S_IFMT == syscall.S_IFCHR && st.Rdev == kvmMajor<<8|kvmMinor
}
