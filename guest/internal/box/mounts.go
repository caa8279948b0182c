package box

import (
	"path"
	"strconv"
	"strings"
	"syscall"

	"cloche/guest/internal/sys"
)

const (
	quiet    = syscall.MS_NOSUID | syscall.MS_NODEV
	openDir  = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	skelMiB  = 16
	devKiB   = 64
	tinyTmpf = "size=4k,nr_inodes=8,mode=555"
	// the number of terminals is the machine's, and all boxes together have three quarters of it
	terminals = 256
)

// stagingPlaces: any directory will do, it is covered only in this mount namespace. Everything that is bound was opened
// before, so covering one of them hides no source.
var stagingPlaces = []string{"/tmp", "/mnt", "/run", "/var"}

// makeRoot builds the new root on a staging place and moves into it. All mounts live in this process's own mount
// namespace, so they end with it and the host never sees one.
func makeRoot(doc *initDoc) error {
	plan := &doc.plan
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return stage("private mounts", err)
	}
	trees, err := sourceTrees(doc)
	if err != nil {
		return err
	}
	at, err := stagingPlace()
	if err != nil {
		return err
	}
	lower, up, root := at+"/lower", at+"/up", at+"/root"
	if err := makeLayers(plan, lower, up, root); err != nil {
		return err
	}
	if err := restoreDisk(plan, up, doc.restoreFD); err != nil {
		return stage("restore disk", err)
	}
	if err := prepareTargets(plan, lower, trees); err != nil {
		return err
	}
	if err := mountOverlay(lower, up, root); err != nil {
		return stage("overlay", err)
	}
	if doc.restoreFD >= 0 {
		if err := syscall.Mount("", up, "", syscall.MS_REMOUNT|quiet, diskOptions(plan, 1)); err != nil {
			return stage("limit disk", err)
		}
	}
	if err := fillRoot(doc, root, trees); err != nil {
		return err
	}
	upFD, err := syscall.Open(up, openDir, 0)
	if err != nil {
		return stage("open disk", err)
	}
	// the supervisor keeps the disk by this descriptor after every process of the box is gone
	report(initReport{}, upFD)
	_ = syscall.Close(upFD)
	return pivot(root)
}

func stagingPlace() (string, error) {
	options := "size=" + strconv.Itoa(skelMiB) + "m,mode=755"
	var last error = syscall.ENOENT
	for _, place := range stagingPlaces {
		if last = syscall.Mount("tmpfs", place, "tmpfs", quiet, options); last == nil {
			return place, nil
		}
	}
	return "", stage("staging tmpfs", last)
}

func makeLayers(plan *Plan, lower, up, root string) error {
	for _, dir := range []string{lower, up, root} {
		if err := syscall.Mkdir(dir, 0o755); err != nil {
			return stage("layers", err)
		}
	}
	if err := syscall.Mount("tmpfs", up, "tmpfs", quiet, diskOptions(plan, 1)+",mode=755"); err != nil {
		return stage("disk", err)
	}
	for _, dir := range []string{up + "/upper", up + "/work", up + "/links"} {
		if err := syscall.Mkdir(dir, 0o755); err != nil {
			return stage("layers", err)
		}
	}
	for i := range plan.Skeleton {
		if err := makeEntry(lower, &plan.Skeleton[i], plan.IDs.Shared()); err != nil {
			return stage("skeleton "+plan.Skeleton[i].Path, err)
		}
	}
	return nil
}

func diskOptions(plan *Plan, inodesTimes int) string {
	return "size=" + strconv.Itoa(plan.DiskMiB) + "m,nr_inodes=" + strconv.Itoa(plan.Inodes*inodesTimes)
}

// restoreDisk allows more inodes until the overlay is mounted: files with several names have one more while they are made,
// and overlayfs tries out what the file system can do, which a disk without a free inode would refuse.
func restoreDisk(plan *Plan, up string, from int) error {
	if from < 0 {
		return nil
	}
	if err := syscall.Mount("", up, "", syscall.MS_REMOUNT|quiet, diskOptions(plan, 2)); err != nil {
		return err
	}
	return restoreInto(up+"/upper", up+"/links", from)
}

func makeEntry(lower string, entry *Entry, shared bool) error {
	place := lower + entry.Path
	switch entry.Kind {
	case "link":
		if err := syscall.Symlink(entry.Target, place); err != nil {
			return err
		}
	case "dir":
		if err := syscall.Mkdir(place, entry.Mode); err != nil {
			return err
		}
	default:
		if err := writeNew(place, entry.Content, entry.Mode); err != nil {
			return err
		}
	}
	if shared || (entry.UID == 0 && entry.GID == 0) {
		return nil
	}
	return syscall.Lchown(place, entry.UID, entry.GID)
}

func writeNew(place, content string, mode uint32) error {
	fd, err := syscall.Open(place, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return writeAll(fd, []byte(content))
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unbroken(func() (int, error) { return syscall.Write(fd, data) })
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// sourceTrees gives a detached clone of each bind's source: those that the supervisor could open as root, and the rest
// opened here by path with the caller's own rights. -1: optional and missing.
func sourceTrees(doc *initDoc) ([]int, error) {
	if len(doc.trees) == 0 {
		return openTrees(doc.plan.Binds)
	}
	return doc.trees, nil
}

func openTrees(binds []Bind) ([]int, error) {
	trees := make([]int, len(binds))
	for i, bind := range binds {
		fd, err := sys.OpenTree(-100, bind.Source, sys.OpenTreeClone|sys.OpenTreeCloexec|sys.AtRecursive)
		if err != nil {
			if bind.Optional && (err == syscall.ENOENT || err == syscall.EACCES) {
				trees[i] = -1
				continue
			}
			return nil, stage("open "+bind.Source, err)
		}
		trees[i] = fd
	}
	return trees, nil
}

func isDirectory(fd int) (bool, error) {
	var st syscall.Stat_t
	err := syscall.Fstat(fd, &st)
	return st.Mode&syscall.S_IFMT == syscall.S_IFDIR, err
}

func prepareTargets(plan *Plan, lower string, trees []int) error {
	lowerFD, err := syscall.Open(lower, openDir, 0)
	if err != nil {
		return stage("layers", err)
	}
	defer syscall.Close(lowerFD)
	for i, bind := range plan.Binds {
		if trees[i] < 0 || bind.KVM {
			continue
		}
		directory, err := isDirectory(trees[i])
		if err == nil {
			err = ensureTarget(lowerFD, bind.Target, directory)
		}
		if err != nil {
			return stage("mount point "+bind.Target, err)
		}
	}
	return nil
}

// ensureTarget makes what is missing of a mount point in the lower layer, never outside of it: links are resolved as if
// the layer were the root.
func ensureTarget(lowerFD int, target string, directory bool) error {
	names := strings.Split(strings.Trim(path.Clean(target), "/"), "/")
	for i := lastKnown(lowerFD, names); i < len(names); i++ {
		place := strings.Join(names[:i+1], "/")
		fd, err := sys.Openat2(lowerFD, place, sys.OPath, 0, sys.ResolveInRoot)
		if err == nil {
			_ = syscall.Close(fd)
			continue
		}
		if err != syscall.ENOENT {
			return err
		}
		parent, err := sys.Openat2(lowerFD, "./"+strings.Join(names[:i], "/"), openDir, 0, sys.ResolveInRoot)
		if err != nil {
			return err
		}
		err = makeMountPoint(parent, names[i], directory || i+1 < len(names))
		_ = syscall.Close(parent)
		if err != nil {
			return err
		}
	}
	return nil
}

// lastKnown: mostly the directory of a mount point is there and the mount point is not, so that is tried first.
func lastKnown(lowerFD int, names []string) int {
	last := len(names) - 1
	fd, err := sys.Openat2(lowerFD, "./"+strings.Join(names[:last], "/"), sys.OPath, 0, sys.ResolveInRoot)
	if err != nil {
		return 0
	}
	_ = syscall.Close(fd)
	return last
}

func makeMountPoint(parent int, name string, directory bool) error {
	if directory {
		return syscall.Mkdirat(parent, name, 0o755)
	}
	return syscall.Mknodat(parent, name, syscall.S_IFREG|0o644, 0)
}

func mountOverlay(lower, up, root string) error {
	options := "lowerdir=" + lower + ",upperdir=" + up + "/upper,workdir=" + up + "/work,userxattr"
	return syscall.Mount("overlay", root, "overlay", quiet, options)
}

// pivot makes root the only thing left: the old root and all its mounts are detached from this namespace.
func pivot(root string) error {
	if err := syscall.Chdir(root); err != nil {
		return stage("enter root", err)
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return stage("pivot_root", err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return stage("leave the old root", err)
	}
	return stage("enter root", chdirRoot())
}

func chdirRoot() error { return syscall.Chdir("/") }
