package seccomp

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"testing"
)

// evaluate runs the filter as the kernel would on one struct seccomp_data.
func evaluate(t *testing.T, program []Instruction, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.LittleEndian.PutUint32(data[offNr:], nr)
	binary.LittleEndian.PutUint32(data[offArch:], arch)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[offArgs+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(program); pc++ {
		in := program[pc]
		hit := false
		switch in.Code {
		case ldAbs:
			acc = binary.LittleEndian.Uint32(data[in.K:])
			continue
		case ret:
			return in.K
		case andK:
			acc &= in.K
			continue
		case jeq:
			hit = acc == in.K
		case jgt:
			hit = acc > in.K
		case jge:
			hit = acc >= in.K
		case jset:
			hit = acc&in.K != 0
		}
		if hit {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the filter ran off its end")
	return 0
}

func nativeArch() uint32 {
	if runtime.GOARCH == "arm64" {
		return auditArchArm64
	}
	return auditArchAmd64
}

func TestEveryNumberHasTheAnswerOfItsList(t *testing.T) {
	program := Program(false)
	special := specials(false)
	byNumber := map[uint32]string{}
	for name, number := range allowed {
		byNumber[number] = name
	}
	for nr := uint32(0); nr < 600; nr++ {
		name, known := byNumber[nr]
		if _, isSpecial := special[name]; isSpecial {
			continue
		}
		want := errno(syscall.EPERM)
		if known {
			want = retAllow
		} else if nr > newestKnown {
			want = errno(syscall.ENOSYS)
		}
		if got := evaluate(t, program, nativeArch(), nr); got != want {
			t.Errorf("%d %s: got %#x, want %#x", nr, name, got, want)
		}
	}
}

func TestForeignArchitecturesAreRefused(t *testing.T) {
	program := Program(false)
	const i386 = 0x40000003
	if got := evaluate(t, program, i386, 1); got != errno(syscall.ENOSYS) {
		t.Errorf("i386: %#x", got)
	}
	if got := evaluate(t, program, nativeArch(), x32Bit|1); got != errno(syscall.ENOSYS) {
		t.Errorf("x32: %#x", got)
	}
}

func TestArguments(t *testing.T) {
	perm, allow := errno(syscall.EPERM), uint32(retAllow)
	family, protocol, kind := errno(syscall.EAFNOSUPPORT), errno(syscall.EPROTONOSUPPORT), errno(syscall.ESOCKTNOSUPPORT)
	cases := []struct {
		name   string
		shared bool
		args   []uint64
		want   uint32
	}{
		{"clone", false, []uint64{uint64(syscall.SIGCHLD)}, allow},
		{"clone", false, []uint64{uint64(syscall.CLONE_NEWUSER)}, perm},
		{"clone", false, []uint64{syscall.CLONE_NEWNET | 17}, perm},
		{"clone3", false, nil, errno(syscall.ENOSYS)},
		{"ioctl", false, []uint64{0, 0x5412}, perm},
		{"ioctl", false, []uint64{0, 0xffffffff00005412}, perm},
		{"ioctl", false, []uint64{0, 0x541c}, perm},
		{"ioctl", false, []uint64{0, 0x5413}, allow},
		{"personality", false, []uint64{0xffffffff}, allow},
		{"personality", false, []uint64{0x0400000}, perm},
		{"socket", false, []uint64{1, 1, 0}, allow},
		{"socket", false, []uint64{10, 1, 0}, allow},
		{"socket", false, []uint64{2, 1, 0}, allow},
		{"socket", false, []uint64{2, syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC | syscall.SOCK_NONBLOCK, 6}, allow},
		{"socket", false, []uint64{10, 2, 17}, allow},
		{"socket", false, []uint64{2, 2, 1}, allow},
		{"socket", false, []uint64{10, 2, 58}, allow},
		{"socket", false, []uint64{2, 1, 262}, allow},
		{"socket", false, []uint64{2, 1, 132}, protocol},
		{"socket", false, []uint64{10, 1, 132}, protocol},
		{"socket", false, []uint64{2, 2, 136}, protocol},
		{"socket", false, []uint64{2, 2, 115}, protocol},
		{"socket", false, []uint64{2, 1, 256}, protocol},
		{"socket", false, []uint64{2, 5, 0}, kind},
		{"socket", false, []uint64{2, 6, 0}, kind},
		{"socket", false, []uint64{2, 10, 0}, kind},
		{"socket", false, []uint64{2, 3, 1}, perm},
		{"socket", false, []uint64{10, 3 | syscall.SOCK_CLOEXEC, 58}, perm},
		{"socket", false, []uint64{16, 3, 0}, allow},
		{"socket", false, []uint64{16, 3, 9}, family},
		{"socket", false, []uint64{17, 3, 0}, family},
		{"socket", false, []uint64{38, 5, 0}, family},
		{"socket", false, []uint64{40, 1, 0}, family},
		{"socketpair", false, []uint64{1, 1}, allow},
		{"io_setup", false, []uint64{1, 0}, errno(syscall.ENOSYS)},
		{"prlimit64", false, []uint64{7, 7, 1}, perm},
		{"prlimit64", true, []uint64{0, 7, 1}, allow},
		{"prlimit64", false, []uint64{0, 4, 0}, allow},
		{"prlimit64", false, []uint64{0, 4, 1}, retErrno},
		{"prlimit64", false, []uint64{0, 4, 1 << 32}, retErrno},
		{"prlimit64", false, []uint64{7, 4, 1}, perm},
		{"setrlimit", false, []uint64{4, 1}, retErrno},
		{"setrlimit", false, []uint64{7, 1}, allow},
		{"prlimit64", true, []uint64{7, 7, 0}, allow},
		{"prlimit64", true, []uint64{7, 7, 1}, perm},
		{"prlimit64", true, []uint64{7, 7, 1 << 32}, perm},
		{"setpriority", true, []uint64{0, 1}, perm},
		{"setpriority", true, []uint64{0, 0}, allow},
		{"setpriority", true, []uint64{1, 0}, perm},
		{"setpriority", true, []uint64{2, 0}, perm},
		{"ioprio_set", true, []uint64{1, 0}, allow},
		{"ioprio_set", true, []uint64{1, 7}, perm},
		{"ioprio_set", true, []uint64{3, 0}, perm},
		{"sched_setaffinity", true, []uint64{1}, perm},
		{"sched_setaffinity", false, []uint64{1}, allow},
	}
	for _, c := range cases {
		if got := evaluate(t, Program(c.shared), nativeArch(), allowed[c.name], c.args...); got != c.want {
			t.Errorf("%s%v shared=%v: got %#x, want %#x", c.name, c.args, c.shared, got, c.want)
		}
	}
}
