// Package users reads the sandbox's own /etc/passwd and /etc/group. Both are written by whoever is inside, so they
// are read with bounds and never trusted to be files.
package users

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"cloche/guest/internal/wire"
)

const maxBytes = 1 << 20

// User is who a process or a file operation runs as.
type User struct {
	Name   string
	UID    int
	GID    int
	Groups []int
	Home   string
	Shell  string
}

// Book answers from the two files and reads them again only when they change.
type Book struct {
	PasswdPath string
	GroupPath  string
	SharedUID  bool

	mu     sync.Mutex
	passwd table
	group  table
}

type table struct {
	stamp stamp
	rows  [][]string
}

type stamp struct {
	known     bool
	dev, ino  uint64
	size      int64
	lastWrite syscall.Timespec
}

// NewBook reads /etc.
func NewBook(sharedUID bool) *Book {
	return &Book{PasswdPath: "/etc/passwd", GroupPath: "/etc/group", SharedUID: sharedUID}
}

// load returns the fields of every line that has at least `fields` of them. Whether the file is another one than before
// is seen without opening it, since every command asks.
func (t *table) load(path string, fields int) [][]string {
	if seen, ok := stampOf(func(stat *syscall.Stat_t) error { return syscall.Stat(path, stat) }); ok && seen == t.stamp {
		return t.rows
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	stamp, ok := stampOf(func(stat *syscall.Stat_t) error { return syscall.Fstat(int(f.Fd()), stat) })
	if !ok {
		return nil
	}
	data, _ := io.ReadAll(io.LimitReader(f, maxBytes))
	t.stamp, t.rows = stamp, nil
	for _, line := range bytes.Split(data, []byte{'\n'}) {
		if row := strings.Split(string(line), ":"); len(row) >= fields {
			t.rows = append(t.rows, row)
		}
	}
	return t.rows
}

// stampOf tells one state of a regular file from another; false for anything else.
func stampOf(look func(*syscall.Stat_t) error) (stamp, bool) {
	var stat syscall.Stat_t
	if look(&stat) != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return stamp{}, false
	}
	return stamp{true, uint64(stat.Dev), stat.Ino, stat.Size, stat.Mtim}, true
}

func (b *Book) users() [][]string  { return b.passwd.load(b.PasswdPath, 7) }
func (b *Book) groups() [][]string { return b.group.load(b.GroupPath, 4) }

// Lookup finds "name", "uid", "name:group" or "uid:gid". The error is a *wire.Error: `invalid` for one that does not
// exist, `needs_subuid` for one that this sandbox cannot be.
func (b *Book) Lookup(wanted string) (User, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name, groupName, hasGroup := strings.Cut(wanted, ":")
	user, err := b.find(name)
	if err != nil {
		return User{}, err
	}
	if hasGroup {
		if user.GID, err = b.findGroup(groupName); err != nil {
			return User{}, err
		}
		user.Groups = []int{user.GID}
	}
	if b.SharedUID && (user.UID != os.Getuid() || user.GID != os.Getgid()) {
		return User{}, wire.Errorf("needs_subuid",
			"user %q needs a second user id, and only one is mapped into this sandbox", wanted).With("user", wire.Text(wanted))
	}
	return user, nil
}

func (b *Book) find(name string) (User, error) {
	id, numeric := parseID(name)
	for _, row := range b.users() {
		uid, okUID := parseID(row[2])
		gid, okGID := parseID(row[3])
		if !okUID || !okGID || !(row[0] == name || numeric && uid == id) {
			continue
		}
		user := User{Name: row[0], UID: uid, GID: gid, Home: row[5], Shell: row[6]}
		user.Groups = b.memberships(row[0], gid)
		return user.filled(), nil
	}
	if b.SharedUID && (name == "user" || numeric && id == os.Getuid()) {
		return User{Name: "user", UID: os.Getuid(), GID: os.Getgid(), Home: "/home/user"}.filled(), nil
	}
	if numeric {
		return User{Name: name, UID: id, GID: 0, Groups: []int{0}}.filled(), nil
	}
	return User{}, wire.InvalidField("user", "no such user in the sandbox: %q", name)
}

func (u User) filled() User {
	if u.Home == "" {
		u.Home = "/"
	}
	if u.Shell == "" {
		u.Shell = "/bin/sh"
	}
	return u
}

func (b *Book) memberships(name string, gid int) []int {
	found := []int{gid}
	for _, row := range b.groups() {
		id, ok := parseID(row[2])
		if !ok || id == gid || len(found) >= 64 {
			continue
		}
		for _, member := range strings.Split(row[3], ",") {
			if member == name {
				found = append(found, id)
				break
			}
		}
	}
	return found
}

func (b *Book) findGroup(name string) (int, error) {
	if id, ok := parseID(name); ok {
		return id, nil
	}
	for _, row := range b.groups() {
		if id, ok := parseID(row[2]); ok && row[0] == name {
			return id, nil
		}
	}
	return 0, wire.InvalidField("user", "no such group in the sandbox: %q", name)
}

// Names returns the name of a uid and of a gid, or their numbers.
func (b *Book) Names(uid, gid uint32) (user, group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return named(b.users(), uid), named(b.groups(), gid)
}

func named(rows [][]string, id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	for _, row := range rows {
		if row[2] == text {
			return row[0]
		}
	}
	return text
}

// Available lists the names that Lookup accepts, at most 100.
func (b *Book) Available() []wire.Text {
	b.mu.Lock()
	rows := b.users()
	b.mu.Unlock()
	names := []wire.Text{}
	for _, row := range rows {
		if _, err := b.Lookup(row[0]); err == nil && len(names) < 100 {
			names = append(names, wire.Text(row[0]))
		}
	}
	return names
}

func parseID(text string) (int, bool) {
	id, err := strconv.ParseUint(text, 10, 32)
	return int(id), err == nil && id != 1<<32-1
}
