package files

import (
	"bytes"
	"errors"
	"os"
	"path"
	"syscall"
	"unsafe"

	"cloche/guest/internal/wire"
)

const watched = syscall.IN_CREATE | syscall.IN_MODIFY | syscall.IN_CLOSE_WRITE | syscall.IN_DELETE | syscall.IN_MOVED_FROM |
	syscall.IN_MOVED_TO | syscall.IN_ATTRIB | syscall.IN_DELETE_SELF | syscall.IN_EXCL_UNLINK

// Watcher reports what changes in a directory, and below it when recursive. Its methods are for one goroutine.
type Watcher struct {
	file      *os.File
	fd        int
	recursive bool
	places    map[int32]string
	modified  map[string]bool // files with a reported write that has not been closed yet
	moving    map[uint32]bool // moves away from a temporary name, by their cookie
	buf       [64 << 10]byte
}

// Watch begins to watch name: a directory or a single file.
func Watch(name string, recursive bool) (*Watcher, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, wire.Errorf("limit_hit", "no more watches are to be had here: %v", err)
	}
	w := &Watcher{file: os.NewFile(uintptr(fd), "watch"), fd: fd, recursive: recursive, places: map[int32]string{},
		modified: map[string]bool{}, moving: map[uint32]bool{}}
	if err := w.add(name); err != nil {
		_ = w.file.Close()
		return nil, err
	}
	if recursive {
		_, err = w.addBelow(name, false)
	}
	return w, err
}

// Close ends the watch; a Next that waits returns os.ErrClosed.
func (w *Watcher) Close() { _ = w.file.Close() }

func (w *Watcher) add(name string) error {
	number, err := syscall.InotifyAddWatch(w.fd, name, watched)
	if err == syscall.ENOSPC {
		return wire.Errorf("limit_hit", "the kernel's bound on watches is reached at %s", name)
	}
	if err != nil {
		return problem(name, err)
	}
	w.places[int32(number)] = name
	return nil
}

// addBelow watches every directory below dir. With tell it returns a create event for all that is there already: it
// came into being before the watch of its directory did.
func (w *Watcher) addBelow(dir string, tell bool) (events []wire.WatchEvent, err error) {
	entries, readErr := os.ReadDir(dir)
	if readErr != nil {
		return nil, nil // gone again, or not ours to read
	}
	for _, entry := range entries {
		full := path.Join(dir, entry.Name())
		if tell && !isTemporary(full) {
			events = append(events, event("create", full, entryKind(entry)))
		}
		if !entry.IsDir() {
			continue
		}
		if err := w.add(full); err != nil {
			if wire.FromErr(err).Code == "limit_hit" {
				return events, err
			}
			continue
		}
		more, err := w.addBelow(full, tell)
		events = append(events, more...)
		if err != nil {
			return events, err
		}
	}
	return events, nil
}

func entryKind(entry os.DirEntry) string {
	switch {
	case entry.IsDir():
		return "directory"
	case entry.Type()&os.ModeSymlink != 0:
		return "symlink"
	}
	return "file"
}

func event(name, place, kind string) wire.WatchEvent {
	text := wire.Text(place)
	return wire.WatchEvent{Event: name, Path: &text, Type: kind}
}

// Next waits for the next events. It must run with the user's rights, as it looks into new directories.
func (w *Watcher) Next() ([]wire.WatchEvent, error) {
	n, err := w.file.Read(w.buf[:])
	if err != nil {
		return nil, err
	}
	var events []wire.WatchEvent
	for at := 0; at+syscall.SizeofInotifyEvent <= n; {
		raw := (*syscall.InotifyEvent)(unsafe.Pointer(&w.buf[at]))
		start := at + syscall.SizeofInotifyEvent
		at = start + int(raw.Len)
		name := string(bytes.TrimRight(w.buf[start:at], "\x00"))
		events = append(events, w.translate(raw, name)...)
	}
	return merge(events), nil
}

// merge leaves out what repeats the event before it.
func merge(events []wire.WatchEvent) []wire.WatchEvent {
	kept := events[:0]
	for _, e := range events {
		if len(kept) > 0 {
			last := kept[len(kept)-1]
			if e.Event == last.Event && e.Path != nil && last.Path != nil && *e.Path == *last.Path {
				continue
			}
		}
		kept = append(kept, e)
	}
	return kept
}

func (w *Watcher) translate(raw *syscall.InotifyEvent, name string) []wire.WatchEvent {
	if raw.Mask&syscall.IN_Q_OVERFLOW != 0 {
		return []wire.WatchEvent{{Event: "overflow"}}
	}
	dir, known := w.places[raw.Wd]
	if raw.Mask&syscall.IN_IGNORED != 0 {
		delete(w.places, raw.Wd)
		return nil
	}
	if !known {
		return nil
	}
	place := dir
	if name != "" {
		place = path.Join(dir, name)
	}
	if raw.Mask&syscall.IN_DELETE_SELF != 0 {
		if w.recursive && len(w.places) > 1 { // its parent's watch tells of it
			return nil
		}
		return []wire.WatchEvent{event("remove", place, "directory")}
	}
	if isTemporary(place) {
		return w.temporary(raw)
	}
	if raw.Mask&syscall.IN_MOVED_TO != 0 && w.moving[raw.Cookie] {
		delete(w.moving, raw.Cookie)
		return []wire.WatchEvent{event("write", place, "file")}
	}
	return w.entry(raw.Mask, place, name == "")
}

// temporary: nobody is told of a file that is still being written beside its place; what takes the place is a write.
func (w *Watcher) temporary(raw *syscall.InotifyEvent) []wire.WatchEvent {
	if raw.Mask&syscall.IN_MOVED_FROM != 0 {
		w.moving[raw.Cookie] = true
	}
	return nil
}

func (w *Watcher) entry(mask uint32, place string, self bool) []wire.WatchEvent {
	kind := "file"
	if mask&syscall.IN_ISDIR != 0 {
		kind = "directory"
	}
	switch {
	case mask&(syscall.IN_CREATE|syscall.IN_MOVED_TO) != 0:
		return w.appeared(place, kind)
	case mask&syscall.IN_MODIFY != 0:
		w.modified[place] = true
		return []wire.WatchEvent{event("write", place, kind)}
	case mask&syscall.IN_CLOSE_WRITE != 0:
		if w.modified[place] {
			delete(w.modified, place)
			return nil
		}
		return []wire.WatchEvent{event("write", place, kind)}
	case mask&syscall.IN_DELETE != 0:
		delete(w.modified, place)
		return []wire.WatchEvent{event("remove", place, kind)}
	case mask&syscall.IN_MOVED_FROM != 0:
		w.forget(place)
		return []wire.WatchEvent{event("rename", place, kind)}
	case mask&syscall.IN_ATTRIB != 0 && !(self && kind == "directory"):
		return []wire.WatchEvent{event("chmod", place, kind)}
	}
	return nil
}

func (w *Watcher) appeared(place, kind string) []wire.WatchEvent {
	var stat syscall.Stat_t
	if kind == "file" && syscall.Lstat(place, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		kind = "symlink"
	}
	events := []wire.WatchEvent{event("create", place, kind)}
	if kind != "directory" || !w.recursive {
		return events
	}
	err := w.add(place)
	if err == nil {
		var below []wire.WatchEvent
		below, err = w.addBelow(place, true)
		events = append(events, below...)
	}
	var refused *wire.Error
	if errors.As(err, &refused) {
		events = append(events, wire.WatchEvent{Event: "overflow"})
	}
	return events
}

// forget stops watching a directory that has gone elsewhere, and what is below it: its paths are wrong now.
func (w *Watcher) forget(place string) {
	for number, watchedPlace := range w.places {
		if watchedPlace == place || len(watchedPlace) > len(place) && watchedPlace[:len(place)+1] == place+"/" {
			_, _ = syscall.InotifyRmWatch(w.fd, uint32(number))
			delete(w.places, number)
		}
	}
}
