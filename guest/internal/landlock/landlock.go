// Package landlock restricts the calling thread to a set of paths, as a second wall behind the mounts.
// Numbers: include/uapi/linux/landlock.h.
package landlock

import (
	"syscall"
	"unsafe"

	"cloche/guest/internal/sys"
)

const (
	nrCreateRuleset = 444
	nrAddRule       = 445
	nrRestrictSelf  = 446
	versionFlag     = 1
	rulePathBeneath = 1

	execute    = 1 << 0
	writeFile  = 1 << 1
	readFile   = 1 << 2
	readDir    = 1 << 3
	makeChar   = 1 << 6
	makeBlock  = 1 << 11
	abi1       = 1<<13 - 1
	refer      = 1 << 13
	truncate   = 1 << 14
	ioctlDev   = 1 << 15
	fileAccess = execute | writeFile | readFile | truncate | ioctlDev

	scopeAbstractUnixSocket = 1 << 0
	scopeSignal             = 1 << 1
)

// Rules are paths inside the box. Missing ones are passed over.
type Rules struct {
	Read   []string `json:"read"`
	Write  []string `json:"write"`
	Device []string `json:"device"`
	Change []string `json:"change"` // existing files may be read and written, nothing made or removed
}

// ABI is the kernel's Landlock version, 0 where there is none.
func ABI() int {
	v, _, e := syscall.RawSyscall(nrCreateRuleset, 0, 0, versionFlag)
	if e != 0 {
		return 0
	}
	return int(v)
}

func handled(abi int) uint64 {
	rights := uint64(abi1)
	if abi >= 2 {
		rights |= refer
	}
	if abi >= 3 {
		rights |= truncate
	}
	if abi >= 5 {
		rights |= ioctlDev
	}
	return rights
}

// Apply restricts the calling thread and its descendants for ever. Needs no_new_privs. Returns the ABI in force; 0 and
// no error on a kernel without Landlock.
func Apply(rules Rules) (int, error) {
	abi := ABI()
	if abi == 0 {
		return 0, nil
	}
	attr := [3]uint64{handled(abi), 0, 0}
	size := uintptr(8)
	if abi >= 6 {
		attr[2] = scopeAbstractUnixSocket | scopeSignal
		size = 24
	}
	fd, _, e := syscall.RawSyscall(nrCreateRuleset, uintptr(unsafe.Pointer(&attr)), size, 0)
	if e != 0 {
		return abi, e
	}
	defer syscall.Close(int(fd))
	all := handled(abi)
	grants := []struct {
		paths  []string
		rights uint64
	}{
		{rules.Read, execute | readFile | readDir},
		{rules.Write, all &^ (makeChar | makeBlock | ioctlDev)},
		{rules.Change, all & (readFile | readDir | writeFile | truncate)},
		{rules.Device, all & (readFile | readDir | writeFile | truncate | ioctlDev)},
	}
	for _, grant := range grants {
		for _, path := range grant.paths {
			if err := add(int(fd), path, grant.rights); err != nil {
				return abi, err
			}
		}
	}
	if _, _, e := syscall.RawSyscall(nrRestrictSelf, fd, 0, 0); e != 0 {
		return abi, e
	}
	return abi, nil
}

func add(ruleset int, path string, rights uint64) error {
	fd, err := syscall.Open(path, sys.OPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		rights &= fileAccess
	}
	// struct landlock_path_beneath_attr is packed: u64, s32
	var attr [12]byte
	*(*uint64)(unsafe.Pointer(&attr[0])) = rights
	*(*int32)(unsafe.Pointer(&attr[8])) = int32(fd)
	_, _, e := syscall.RawSyscall6(nrAddRule, uintptr(ruleset), rulePathBeneath, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
