// Package seccomp builds and applies the allow-list under which everything in a sandbox runs, the guest too.
package seccomp

import (
	"runtime"
	"sort"
	"syscall"
	"unsafe"
)

const (
	retAllow = 0x7fff0000
	retErrno = 0x00050000

	ldAbs = 0x20 // BPF_LD | BPF_W | BPF_ABS
	jeq   = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	jgt   = 0x25
	jge   = 0x35
	jset  = 0x45
	ret   = 0x06
	andK  = 0x54 // BPF_ALU | BPF_AND | BPF_K

	offNr   = 0
	offArch = 4
	offArgs = 16

	auditArchAmd64 = 0xc000003e
	auditArchArm64 = 0xc00000b7
	x32Bit         = 0x40000000
	// numbers above are newer than this list: ENOSYS makes libraries fall back, where EPERM would make them fail
	newestKnown = 470

	namespaceFlags = 0x7e020000 // CLONE_NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET
	afUnix         = 1
	afInet         = 2
	afInet6        = 10
	afNetlink      = 16
	netlinkRoute   = 0
	socketKinds    = 0xf // beside them are flags

	rlimitCore       = 4
	prioProcess      = 0
	ioprioWhoProcess = 1
)

// ioctls that type into, or reprogram, a terminal that somebody else may be using (linux/tty.h, asm-generic/ioctls.h).
var forbiddenIoctls = []uint32{0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */, 0x541d /* TIOCCONS */, 0x5423 /* TIOCSETD */}

var personalities = []uint32{0 /* PER_LINUX */, 8 /* PER_LINUX32 */, 0x20000 /* UNAME26 */, 0xffffffff /* read */}

var internetProtocols = []uint32{0 /* of the kind */, syscall.IPPROTO_ICMP, syscall.IPPROTO_TCP, syscall.IPPROTO_UDP,
	syscall.IPPROTO_ICMPV6, 262 /* IPPROTO_MPTCP, which is TCP */}

// Instruction is struct sock_filter.
type Instruction struct {
	Code uint16
	Jt   uint8
	Jf   uint8
	K    uint32
}

func load(offset uint32) Instruction                     { return Instruction{ldAbs, 0, 0, offset} }
func jump(code uint16, k uint32, t, f uint8) Instruction { return Instruction{code, t, f, k} }
func answer(action uint32) Instruction                   { return Instruction{ret, 0, 0, action} }
func errno(e syscall.Errno) uint32                       { return retErrno | uint32(e) }
func argLow(n uint32) uint32                             { return offArgs + 8*n }
func argHigh(n uint32) uint32                            { return offArgs + 8*n + 4 }

// Program is the whole filter. sharedUID: user code has the guest's uid, so calls that the kernel would permit between
// processes of one user are refused where they name somebody else.
func Program(sharedUID bool) []Instruction {
	return assemble(allowed, specials(sharedUID))
}

// assemble permits the numbers of the table, those of `special` as their bodies say, and nothing else.
func assemble(table map[string]uint32, special map[string][]Instruction) []Instruction {
	program := prologue()
	for _, name := range sortedNames(special) {
		body := special[name]
		program = append(program, jump(jeq, table[name], 0, uint8(len(body))))
		program = append(program, body...)
	}
	program = append(program, ranges(table, special)...)
	program = append(program, jump(jgt, newestKnown, 0, 1), answer(errno(syscall.ENOSYS)))
	return append(program, answer(errno(syscall.EPERM)))
}

func prologue() []Instruction {
	arch := uint32(auditArchAmd64)
	if runtime.GOARCH == "arm64" {
		arch = auditArchArm64
	}
	return []Instruction{
		load(offArch), jump(jeq, arch, 1, 0), answer(errno(syscall.ENOSYS)),
		load(offNr), jump(jge, x32Bit, 0, 1), answer(errno(syscall.ENOSYS)),
	}
}

// specials are the calls whose arguments matter. Each body ends in an answer on every path.
func specials(sharedUID bool) map[string][]Instruction {
	bodies := map[string][]Instruction{
		// its flags are behind a pointer that a filter cannot read; libraries fall back to clone
		"clone3":      {answer(errno(syscall.ENOSYS))},
		"clone":       {load(argLow(0)), jump(jset, namespaceFlags, 0, 1), answer(errno(syscall.EPERM)), answer(retAllow)},
		"ioctl":       noneOf(1, forbiddenIoctls),
		"personality": oneOf(0, personalities, syscall.EPERM),
		"socket":      socketBody(),
		"socketpair":  oneOf(0, []uint32{afUnix}, syscall.EAFNOSUPPORT),
		// its quota (fs.aio-max-nr) is the whole machine's; libraries fall back to threads
		"io_setup":  {answer(errno(syscall.ENOSYS))},
		"prlimit64": prlimitBody(),
		"setrlimit": {load(argLow(0)), jump(jeq, rlimitCore, 1, 0), answer(retAllow), answer(retErrno)},
	}
	if sharedUID {
		for _, name := range []string{"sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"} {
			bodies[name] = oneOf(0, []uint32{0}, syscall.EPERM)
		}
		// the caller itself and nobody else: its user's processes would be the guest too
		bodies["setpriority"] = onlySelf(prioProcess)
		bodies["ioprio_set"] = onlySelf(ioprioWhoProcess)
	}
	for name := range bodies {
		if _, here := allowed[name]; !here {
			delete(bodies, name)
		}
	}
	return bodies
}

// prlimitBody: anything may be read. Only the caller's own may be set: a limit on CPU time or memory ends PID 1, and the
// kernel lets root inside set it. A new size of core dumps is answered with success and not set: the value from before this
// filter is the one that keeps the kernel from running the host's core_pattern program, and programs insist on 0.
func prlimitBody() []Instruction {
	return []Instruction{
		load(argLow(2)), jump(jeq, 0, 0, 2),
		load(argHigh(2)), jump(jeq, 0, 5, 0),
		load(argLow(0)), jump(jeq, 0, 1, 0), answer(errno(syscall.EPERM)),
		load(argLow(1)), jump(jeq, rlimitCore, 1, 0),
		answer(retAllow), answer(retErrno),
	}
}

func socketBody() []Instruction {
	others := []Instruction{
		load(argLow(0)),
		jump(jeq, afInet, 7, 0), jump(jeq, afInet6, 6, 0), jump(jeq, afUnix, 4, 0), jump(jeq, afNetlink, 0, 2),
		load(argLow(2)), jump(jeq, netlinkRoute, 1, 0),
		answer(errno(syscall.EAFNOSUPPORT)), answer(retAllow),
	}
	return append(others, internetBody()...)
}

// internetBody: a kind and a protocol that programs use. For any other the kernel of the host would load a module, for
// whoever asks, and nobody could be reached by it.
func internetBody() []Instruction {
	kinds := []Instruction{
		load(argLow(1)), {andK, 0, 0, socketKinds},
		jump(jeq, syscall.SOCK_RAW, 0, 1), answer(errno(syscall.EPERM)),
		jump(jeq, syscall.SOCK_STREAM, 2, 0), jump(jeq, syscall.SOCK_DGRAM, 1, 0), answer(errno(syscall.ESOCKTNOSUPPORT)),
	}
	return append(kinds, oneOf(2, internetProtocols, syscall.EPROTONOSUPPORT)...)
}

func oneOf(arg uint32, values []uint32, refusal syscall.Errno) []Instruction {
	body := []Instruction{load(argLow(arg))}
	for i, value := range values {
		body = append(body, jump(jeq, value, uint8(len(values)-i), 0))
	}
	return append(body, answer(errno(refusal)), answer(retAllow))
}

// onlySelf permits a call whose first argument says that its second is a process, and whose second is the caller.
func onlySelf(process uint32) []Instruction {
	return []Instruction{
		load(argLow(0)), jump(jeq, process, 0, 2),
		load(argLow(1)), jump(jeq, 0, 1, 0),
		answer(errno(syscall.EPERM)), answer(retAllow),
	}
}

func noneOf(arg uint32, values []uint32) []Instruction {
	body := []Instruction{load(argLow(arg))}
	for i, value := range values {
		body = append(body, jump(jeq, value, uint8(len(values)-i), 0))
	}
	return append(body, answer(retAllow), answer(errno(syscall.EPERM)))
}

// ranges joins neighbouring numbers, because the kernel tries the filter on every number when it is applied.
func ranges(table map[string]uint32, special map[string][]Instruction) []Instruction {
	numbers := []uint32{}
	for name, number := range table {
		if _, isSpecial := special[name]; !isSpecial {
			numbers = append(numbers, number)
		}
	}
	sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
	program := []Instruction{}
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		program = append(program, jump(jge, numbers[i], 0, 2), jump(jgt, numbers[last], 1, 0), answer(retAllow))
		i = last + 1
	}
	return program
}

func sortedNames(bodies map[string][]Instruction) []string {
	names := make([]string, 0, len(bodies))
	for name := range bodies {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

type sockFprog struct {
	length uint16
	filter *Instruction
}

// Apply puts the filter on the calling thread, for ever and for all its descendants. Needs no_new_privs.
func Apply(program []Instruction) error {
	prog := sockFprog{uint16(len(program)), &program[0]}
	const prSetSeccomp, modeFilter = 22, 2
	_, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetSeccomp, modeFilter, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return e
	}
	return nil
}
