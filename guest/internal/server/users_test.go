package server

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

var errNoSpace = error(syscall.ENOSPC)

// TestFilesAsAnotherUser needs root, as the guest is inside a sandbox with many users.
func TestFilesAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	g := newGuest(t)
	for dir := g.dir; dir != "/tmp" && dir != "/"; dir = parentOf(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g.call(200, "PUT", path(content, "secret")+"&mode=600", "s")
	if code := g.code("GET", path(content, g.dir+"/secret")+"&user=other", nil); code != "permission_denied" {
		t.Errorf("read as another user: %q", code)
	}
	if code := g.code("PUT", path(content, g.dir+"/new")+"&user=other", "x"); code != "permission_denied" {
		t.Errorf("written as another user: %q", code)
	}
	g.call(200, "POST", "/v1/files/mkdir", `{"path":"shared","mode":511}`)
	info := g.info(200, "PUT", path(content, g.dir+"/shared/f")+"&user=other", "x")
	if info.UID != 4321 || info.GID != 4321 || info.User != "other" {
		t.Errorf("%+v", info)
	}
	if code := g.code("POST", "/v1/files/chown?user=other", `{"path":"`+g.dir+`/shared/f","uid":0}`); code != "permission_denied" {
		t.Error(code)
	}
	if info := g.info(200, "POST", "/v1/files/chown", `{"path":"shared/f","uid":0,"gid":0}`); info.UID != 0 {
		t.Errorf("%+v", info)
	}
	if r := g.run(with(shell("id -u; id -g; id -G"), "user", "other")); string(r.out[0]) != "4321\n4321\n4321\n" {
		t.Errorf("%q", r.out[0])
	}
}

// TestRightsGoBackAfterwards would show a thread that kept another user's rights: root's reads would fail at times.
func TestRightsGoBackAfterwards(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	g := newGuest(t)
	g.call(200, "PUT", path(content, "secret")+"&mode=600", "s")
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for n := 0; n < 50; n++ {
				if code := g.code("GET", path(content, g.dir+"/secret")+"&user=other", nil); code != "permission_denied" {
					t.Errorf("other: %q", code)
				}
				if code := g.code("GET", path(content, "secret"), nil); code != "" {
					t.Errorf("root: %q", code)
				}
			}
		}()
	}
	all.Wait()
}

func TestSharedUIDHasNoOtherUser(t *testing.T) {
	g := newGuest(t)
	g.manager.Book.SharedUID = true
	if code := g.code("GET", path(content, "x")+"&user=other", nil); code != "needs_subuid" {
		t.Error(code)
	}
	if code := g.code("POST", "/v1/processes", with(shell("true"), "user", "other")); code != "needs_subuid" {
		t.Error(code)
	}
	g.call(200, "PUT", path(content, "f"), "x")
	if code := g.code("POST", "/v1/files/chown", `{"path":"f","uid":4321}`); code != "needs_subuid" {
		t.Error(code)
	}
}

func parentOf(dir string) string {
	for i := len(dir) - 1; i > 0; i-- {
		if dir[i] == '/' {
			return dir[:i]
		}
	}
	return "/"
}
