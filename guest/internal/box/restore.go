package box

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"syscall"
)

// restoreInto fills the upper layer from a saved disk; a negative descriptor means there is none. What was saved is
// hostile: each record makes one name in the directory that is open, and no link is ever followed.
//
// `parked` is an empty directory of the same file system. Files with several names wait there until all are made.
func restoreInto(dir, parked string, from int) error {
	if from < 0 {
		return nil
	}
	in := bufio.NewReaderSize(os.NewFile(uintptr(from), "saved"), 1<<20)
	return restoreTree(dir, parked, in)
}

func restoreTree(dir, parked string, in *bufio.Reader) error {
	r := &restorer{in: in, dir: -1, park: -1}
	defer r.close()
	var err error
	if r.dir, err = syscall.Open(dir, openDir, 0); err != nil {
		return err
	}
	if r.park, err = syscall.Open(parked, openDir, 0); err != nil {
		return err
	}
	for {
		entry, err := readRecord(in)
		if err != nil {
			return err
		}
		if entry.Kind == kindEnd {
			return r.finish()
		}
		if err := r.apply(entry); err != nil {
			return err
		}
	}
}

type restorer struct {
	in    *bufio.Reader
	dir   int
	above []*record
	file  *os.File
	entry *record
	park  int
	links map[int]bool
}

func (r *restorer) close() {
	_ = syscall.Close(r.dir)
	_ = syscall.Close(r.park)
	if r.file != nil {
		_ = r.file.Close()
	}
}

func (r *restorer) apply(entry *record) error {
	if entry.Kind == kindData {
		return r.data(entry)
	}
	if err := r.endFile(); err != nil {
		return err
	}
	if entry.Kind == kindUp {
		return r.ascend()
	}
	if !entry.named() {
		return syscall.EBADMSG
	}
	return r.make(entry, string(entry.Name))
}

func (r *restorer) make(entry *record, name string) error {
	var err error
	switch entry.Kind {
	case kindDir:
		return r.descend(entry, name)
	case kindFile:
		return r.beginFile(entry, name)
	case kindHard:
		return linkat(r.park, strconv.Itoa(entry.Link), r.dir, name)
	case kindLink:
		err = symlinkat(string(entry.Target), r.dir, name)
	case kindFifo:
		err = syscall.Mknodat(r.dir, name, syscall.S_IFIFO|0o600, 0)
	case kindWhiteout:
		// character device 0:0 is overlayfs's mark of a removed file, the one device that everybody may make
		err = syscall.Mknodat(r.dir, name, syscall.S_IFCHR, 0)
	default:
		err = syscall.EBADMSG
	}
	if err != nil {
		return err
	}
	return r.dress(entry)
}

func (r *restorer) descend(entry *record, name string) error {
	if err := syscall.Mkdirat(r.dir, name, 0o700); err != nil {
		return err
	}
	fd, err := syscall.Openat(r.dir, name, openDir|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_ = syscall.Close(r.dir)
	r.dir, r.above = fd, append(r.above, entry)
	return setXattrs(fd, entry.Xattrs)
}

// ascend leaves a directory and gives it its owner, mode and time, which making entries in it would have changed. The
// tree is this process's alone, so ".." is the directory that it came from.
func (r *restorer) ascend() error {
	last := len(r.above) - 1
	if last < 0 {
		return syscall.EBADMSG
	}
	fd, err := syscall.Openat(r.dir, "..", openDir, 0)
	if err != nil {
		return err
	}
	_ = syscall.Close(r.dir)
	entry := r.above[last]
	r.dir, r.above = fd, r.above[:last]
	return r.dress(entry)
}

func (r *restorer) beginFile(entry *record, name string) error {
	flags := syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	fd, err := syscall.Openat(r.dir, name, flags, 0o600)
	if err != nil {
		return err
	}
	r.file, r.entry = os.NewFile(uintptr(fd), "file"), entry
	if err := r.file.Truncate(entry.Size); err != nil {
		return err
	}
	return setXattrs(fd, entry.Xattrs)
}

func (r *restorer) data(entry *record) error {
	if r.file == nil || entry.Offset < 0 || entry.Length < 0 || entry.Offset > r.entry.Size-entry.Length {
		return syscall.EBADMSG
	}
	_, err := io.CopyN(io.NewOffsetWriter(r.file, entry.Offset), r.in, entry.Length)
	return err
}

// endFile gives the file that was filled last what writing would have changed.
func (r *restorer) endFile() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	if err != nil {
		return err
	}
	return r.dress(r.entry)
}

// dress sets owner before mode, since a change of owner clears setuid bits.
func (r *restorer) dress(entry *record) error {
	name := string(entry.Name)
	err := syscall.Fchownat(r.dir, name, entry.UID, entry.GID, atSymlinkNofollow)
	if err != nil && err != syscall.EPERM {
		return err
	}
	if entry.Kind != kindLink && entry.Kind != kindWhiteout {
		if err := syscall.Fchmodat(r.dir, name, entry.Mode, 0); err != nil {
			return err
		}
	}
	if entry.Link != 0 {
		if err := r.parkLink(entry.Link, name); err != nil {
			return err
		}
	}
	return setMtime(r.dir, name, entry.MtimeNs)
}

func (r *restorer) parkLink(number int, name string) error {
	if r.links == nil {
		r.links = map[int]bool{}
	}
	r.links[number] = true
	return linkat(r.dir, name, r.park, strconv.Itoa(number))
}

func (r *restorer) finish() error {
	if err := r.endFile(); err != nil {
		return err
	}
	if len(r.above) > 0 {
		return syscall.EBADMSG
	}
	for number := range r.links {
		if err := unlinkat(r.park, strconv.Itoa(number)); err != nil {
			return err
		}
	}
	return nil
}
