package vmboot

import (
	"fmt"
	"os"
	"syscall"
)

const (
	quiet     = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
	rootDisk  = "/dev/vda"
	ownDisk   = "/dev/vdb"
	lowerDir  = "/lower"
	diskDir   = "/disk"
	rootDir   = "/root"
	openFiles = 1 << 20
)

type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

// early: what the boot itself needs. The list is of the initramfs, which nobody sees afterwards.
var early = []mount{{"devtmpfs", "/dev", "devtmpfs", syscall.MS_NOSUID, "mode=755"}}

// late: what programs expect. A tmpfs has half of the memory unless it says otherwise, and user code pays for what it
// puts there.
var late = []mount{
	{"proc", "/proc", "proc", quiet, ""},
	{"sysfs", "/sys", "sysfs", quiet, ""},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", quiet, ""},
	{"devtmpfs", "/dev", "devtmpfs", syscall.MS_NOSUID, "mode=755"},
	{"tmpfs", "/run", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=755"},
}

var inDev = []mount{
	{"devpts", "/dev/pts", "devpts", syscall.MS_NOSUID | syscall.MS_NOEXEC, "ptmxmode=0666,mode=620,gid=5"},
	{"tmpfs", "/dev/shm", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=1777"},
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("%s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// mountRoot puts the written disk over the image. It returns a descriptor of that disk, which keeps no path.
func mountRoot() (disk int, err error) {
	err = mountAll([]mount{{rootDisk, lowerDir, "erofs", syscall.MS_RDONLY, ""},
		// the tables that the host left out when it made the disk stay out: filling them in would write to it for nothing
		{ownDisk, diskDir, "ext4", syscall.MS_NOATIME, "noinit_itable"}})
	if err != nil {
		return -1, err
	}
	for _, dir := range []string{diskDir + "/upper", diskDir + "/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return -1, err
		}
	}
	// A sandbox is not a place to keep what must outlive a crash of the host: without waiting for the disk at each fsync,
	// whatever installs packages or keeps a database is many times faster. What a freeze saves is complete: it writes out
	// the disk below. The mark of an earlier boot that ended without a word is no reason to refuse the next.
	if err := os.RemoveAll(diskDir + "/work/work/incompat"); err != nil {
		return -1, err
	}
	options := "volatile,lowerdir=" + lowerDir + ",upperdir=" + diskDir + "/upper,workdir=" + diskDir + "/work,redirect_dir=off,index=off,metacopy=off"
	if err := mountAll([]mount{{"overlay", rootDir, "overlay", syscall.MS_NOATIME, options}}); err != nil {
		return -1, err
	}
	return syscall.Open(diskDir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
}

// dropInitramfs gives its memory back. This program stays for as long as it runs.
func dropInitramfs() error {
	for _, place := range []string{"/modules", "/init"} {
		if err := os.RemoveAll(place); err != nil {
			return err
		}
	}
	return nil
}

// switchRoot moves the root over the initramfs, which cannot be unmounted. What was mounted in there stays out of reach.
func switchRoot() error {
	for _, place := range []string{"/dev", "/proc"} {
		if err := syscall.Unmount(place, syscall.MNT_DETACH); err != nil {
			return err
		}
	}
	if err := syscall.Chdir(rootDir); err != nil {
		return err
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return err
	}
	return syscall.Chdir("/")
}

// makeDirectories: an image need not have them, and an empty mount point is none of its secrets.
func makeDirectories() error {
	for _, dir := range []struct {
		place string
		mode  uint32
	}{{"/proc", 0o555}, {"/sys", 0o555}, {"/dev", 0o755}, {"/run", 0o755}, {"/etc", 0o755}, {"/root", 0o700},
		{"/home", 0o755}, {"/tmp", 0o1777}} {
		if err := syscall.Mkdir(dir.place, dir.mode); err != nil && err != syscall.EEXIST {
			return fmt.Errorf("%s: %w", dir.place, err)
		} else if err == nil {
			_ = syscall.Chmod(dir.place, dir.mode)
		}
	}
	return nil
}

// finishDev adds what the kernel does not make there.
func finishDev() error {
	for _, m := range inDev {
		if err := os.Mkdir(m.target, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
	}
	for _, link := range [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}} {
		if err := os.Symlink(link[0], "/dev/"+link[1]); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return mountAll(inDev)
}

// raiseLimits: the kernel starts its first program with 1024 open files, and whatever runs here inherits from it.
func raiseLimits() error {
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: openFiles, Max: openFiles})
}
