package box

import (
	"strconv"
	"syscall"

	"cloche/guest/internal/sys"
)

// fillRoot attaches what the box sees of the host, then its own /proc and /dev, then covers what it may not see.
func fillRoot(doc *initDoc, root string, trees []int) error {
	plan := &doc.plan
	rootFD, err := syscall.Open(root, openDir, 0)
	if err != nil {
		return stage("open root", err)
	}
	defer syscall.Close(rootFD)
	for i, bind := range plan.Binds {
		if trees[i] < 0 || bind.KVM {
			continue
		}
		err := attach(rootFD, trees[i], &bind)
		// a file that the host replaced since it was opened cannot be attached any more; without one of these the box works
		if err != nil && !(bind.Optional && err == syscall.ENOENT) {
			return stage("mount "+bind.Target, err)
		}
	}
	if err := mountProc(plan, root); err != nil {
		return err
	}
	if err := mountDev(doc, root, trees); err != nil {
		return err
	}
	for _, hidden := range plan.Hide {
		if err := cover(rootFD, hidden); err != nil {
			return stage("hide "+hidden, err)
		}
	}
	return nil
}

func attach(rootFD, tree int, bind *Bind) error {
	attrs := uint64(sys.MountAttrNosuid | sys.MountAttrNodev)
	if bind.ReadOnly {
		attrs |= sys.MountAttrRdonly
	}
	if err := sys.MountSetattr(tree, true, attrs); err != nil {
		return err
	}
	return moveTo(rootFD, tree, bind.Target)
}

// moveTo resolves the target as the box would, so a link in an image never leads a mount elsewhere.
func moveTo(rootFD, tree int, target string) error {
	place, err := sys.Openat2(rootFD, target, sys.OPath, 0, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err != nil {
		return err
	}
	defer syscall.Close(place)
	defer syscall.Close(tree)
	return sys.MoveMount(tree, place)
}

func mountProc(plan *Plan, root string) error {
	proc := root + "/proc"
	if err := syscall.Mount("proc", proc, "proc", quiet|syscall.MS_NOEXEC, ""); err != nil {
		return stage("mount /proc", err)
	}
	procFD, err := syscall.Open(proc, openDir, 0)
	if err != nil {
		return stage("mount /proc", err)
	}
	defer syscall.Close(procFD)
	limitNamespace(proc)
	if plan.Program == nil {
		openPorts(proc)
	}
	for _, name := range plan.ProcReadOnly {
		if err := freeze(proc, procFD, name); err != nil && err != syscall.ENOENT {
			return stage("protect /proc/"+name, err)
		}
	}
	for _, name := range plan.ProcMasked {
		if err := cover(procFD, name); err != nil {
			return stage("mask /proc/"+name, err)
		}
	}
	return nil
}

func freeze(base string, baseFD int, name string) error {
	tree, err := sys.OpenTree(-100, base+"/"+name, sys.OpenTreeClone|sys.OpenTreeCloexec)
	if err != nil {
		return err
	}
	if err := sys.MountSetattr(tree, false, sys.MountAttrRdonly|sys.MountAttrNosuid|sys.MountAttrNodev|sys.MountAttrNoexec); err != nil {
		return err
	}
	return moveTo(baseFD, tree, name)
}

// cover hides a directory under an empty read-only one and a file under /dev/null. What is not there needs no cover.
func cover(rootFD int, name string) error {
	place, err := sys.Openat2(rootFD, name, sys.OPath, 0, sys.ResolveInRoot|sys.ResolveNoMagiclinks)
	if err == syscall.ENOENT || err == syscall.EACCES || err == syscall.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	defer syscall.Close(place)
	directory, err := isDirectory(place)
	if err != nil {
		return err
	}
	link := "/proc/self/fd/" + strconv.Itoa(place)
	if directory {
		return syscall.Mount("tmpfs", link, "tmpfs", quiet|syscall.MS_NOEXEC|syscall.MS_RDONLY, tinyTmpf)
	}
	return coverFile(place)
}

// coverFile puts /dev/null over a file, with no more rights than any other mount of the box has.
func coverFile(place int) error {
	tree, err := sys.OpenTree(-100, "/dev/null", sys.OpenTreeClone|sys.OpenTreeCloexec)
	if err != nil {
		return err
	}
	defer syscall.Close(tree)
	if err := sys.MountSetattr(tree, false, sys.MountAttrRdonly|sys.MountAttrNosuid|sys.MountAttrNoexec); err != nil {
		return err
	}
	return sys.MoveMount(tree, place)
}

func mountDev(doc *initDoc, root string, trees []int) error {
	dev := root + "/dev"
	options := "size=" + strconv.Itoa(devKiB) + "k,mode=755"
	if err := syscall.Mount("tmpfs", dev, "tmpfs", syscall.MS_NOSUID|syscall.MS_NOEXEC, options); err != nil {
		return stage("mount /dev", err)
	}
	devFD, err := syscall.Open(dev, openDir, 0)
	if err != nil {
		return stage("mount /dev", err)
	}
	defer syscall.Close(devFD)
	for _, name := range doc.plan.Devices {
		if err := bindDevice(devFD, name); err != nil {
			return stage("/dev/"+name, err)
		}
	}
	for i, bind := range doc.plan.Binds {
		if !bind.KVM {
			continue
		}
		if err := attachKVM(devFD, trees[i]); err != nil {
			return stage("/dev/kvm", err)
		}
	}
	if err := devLinks(dev); err != nil {
		return stage("/dev links", err)
	}
	if err := syscall.Mount("devpts", dev+"/pts", "devpts", syscall.MS_NOSUID|syscall.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,max="+strconv.Itoa(terminals)); err != nil {
		return stage("/dev/pts", err)
	}
	options = "size=" + strconv.Itoa(doc.plan.ShmMiB) + "m,mode=1777"
	if err := syscall.Mount("tmpfs", dev+"/shm", "tmpfs", quiet, options); err != nil {
		return stage("/dev/shm", err)
	}
	return stage("protect /dev", sys.MountSetattr(devFD, false, sys.MountAttrRdonly))
}

// bindDevice: a user namespace may not make device nodes, so the host's own harmless ones are bound one by one.
func bindDevice(devFD int, name string) error {
	tree, err := sys.OpenTree(-100, "/dev/"+name, sys.OpenTreeClone|sys.OpenTreeCloexec)
	if err != nil {
		return err
	}
	return attachDevice(devFD, tree, name)
}

// attachKVM: the node may lie anywhere, and it is this one device or none.
func attachKVM(devFD, tree int) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(tree, &st); err != nil {
		return err
	}
	if !isKVM(&st) {
		return syscall.ENODEV
	}
	return attachDevice(devFD, tree, "kvm")
}

func attachDevice(devFD, tree int, name string) error {
	if err := makeMountPoint(devFD, name, false); err != nil {
		return err
	}
	if err := sys.MountSetattr(tree, false, sys.MountAttrNosuid|sys.MountAttrNoexec); err != nil {
		return err
	}
	return moveTo(devFD, tree, name)
}

func devLinks(dev string) error {
	links := [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}}
	for _, link := range links {
		if err := syscall.Symlink(link[0], dev+"/"+link[1]); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/pts", "/shm"} {
		if err := syscall.Mkdir(dev+dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}
