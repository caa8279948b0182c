package box

import (
	"os"
	"testing"
	"time"
)

var modified = time.Unix(1_000_000_000, 0)

func TestMountPointsAreMadeInside(t *testing.T) {
	lower := t.TempDir()
	must(t, os.MkdirAll(lower+"/usr/share", 0o755))
	must(t, os.Symlink("usr/share", lower+"/share"))
	fd := open(t, lower)
	must(t, ensureTarget(fd, "/opt/new/deep", true))
	must(t, ensureTarget(fd, "/etc/file", false))
	must(t, ensureTarget(fd, "/share/by-link", true))
	must(t, ensureTarget(fd, "/usr/share", true))
	for place, directory := range map[string]bool{"/opt/new/deep": true, "/etc/file": false, "/usr/share/by-link": true} {
		found, err := os.Lstat(lower + place)
		if err != nil || found.IsDir() != directory {
			t.Errorf("%s: %v %v", place, found, err)
		}
	}
}

func TestMountPointsBehindLinksStayInside(t *testing.T) {
	outside := t.TempDir()
	for name, target := range map[string]string{"absolute": outside, "dots": "../../../../../../../.." + outside} {
		lower := t.TempDir()
		must(t, os.Symlink(target, lower+"/"+name))
		must(t, os.MkdirAll(lower+outside, 0o755))
		must(t, ensureTarget(open(t, lower), "/"+name+"/made", true))
		if _, err := os.Lstat(lower + outside + "/made"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if names, _ := os.ReadDir(outside); len(names) != 0 {
		t.Errorf("made outside: %v", names)
	}
}

func TestDanglingAndLoopingLinksAreErrors(t *testing.T) {
	lower := t.TempDir()
	must(t, os.Symlink("/nowhere", lower+"/dangling"))
	must(t, os.Symlink("loop", lower+"/loop"))
	must(t, os.WriteFile(lower+"/file", nil, 0o600))
	for _, target := range []string{"/dangling/made", "/loop/made", "/file/made"} {
		if err := ensureTarget(open(t, lower), target, true); err == nil {
			t.Errorf("%s: made", target)
		}
	}
	if _, err := os.Lstat("/nowhere"); err == nil {
		t.Error("made at the host's root")
	}
}
