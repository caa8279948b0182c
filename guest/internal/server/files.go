package server

import (
	"net/http"
	"strings"

	"cloche/guest/internal/asuser"
	"cloche/guest/internal/files"
	"cloche/guest/internal/procs"
	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

func (s *server) fileRoutes() map[string]handler {
	return map[string]handler{
		"GET /v1/files/content": s.readFile, "PUT /v1/files/content": s.writeFile, "GET /v1/files/stat": s.stat,
		"GET /v1/files/list": s.list, "POST /v1/files/mkdir": s.mkdir, "POST /v1/files/move": s.move,
		"POST /v1/files/chmod": s.chmod, "POST /v1/files/chown": s.chown, "POST /v1/files/symlink": s.symlink,
		"DELETE /v1/files": s.removeFile, "GET /v1/files/tar": s.readTar, "PUT /v1/files/tar": s.writeTar,
		"GET /v1/files/watch": s.watch,
	}
}

// target is whose rights a file request has and which parameters it came with.
type target struct {
	*query
	user users.User
	path string
}

// target reads the parameters that every file route has: user, and path where it is not in a body.
func (s *server) target(r *http.Request, known ...string) (*target, error) {
	t := &target{query: queryOf(r, append(known, "user")...)}
	user, err := s.Manager.User(t.text("user"))
	if t.err != nil || err != nil {
		return nil, first(t.err, err)
	}
	t.user = user
	if contains(known, "path") {
		t.path, err = t.resolve("path", t.text("path"))
	}
	return t, err
}

// resolve makes a path absolute: the kernel does the rest.
func (t *target) resolve(field, name string) (string, error) {
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return "", wire.InvalidField(field, "%s must be a path without NUL", field)
	}
	return procs.Expand(name, t.user.Home), nil
}

// as runs f with the rights of the request's user.
func (t *target) as(f func() error) error { return asuser.Run(t.user, f) }

func (s *server) stat(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path", "follow")
	if err != nil {
		return err
	}
	follow := t.flag("follow", false)
	if t.err != nil {
		return t.err
	}
	return s.answer(w, t, t.path, follow, func() error { return nil })
}

// answer makes a change and describes what is at name after it.
func (s *server) answer(w http.ResponseWriter, t *target, name string, follow bool, change func() error) error {
	var info wire.FileInfo
	err := t.as(func() (err error) {
		if err = change(); err == nil {
			info, err = files.Stat(s.Manager.Book, name, follow)
		}
		return err
	})
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, info)
	return nil
}

func (s *server) mkdir(w http.ResponseWriter, r *http.Request) error {
	body := struct {
		Path    wire.Text `json:"path"`
		Mode    uint32    `json:"mode"`
		Parents bool      `json:"parents"`
	}{Mode: 0o755}
	t, name, err := s.bodyTarget(w, r, &body, &body.Path)
	if err != nil {
		return err
	}
	return s.answer(w, t, name, true, func() error { return files.Mkdir(name, body.Mode, body.Parents) })
}

// bodyTarget decodes a JSON body and resolves the path in it.
func (s *server) bodyTarget(w http.ResponseWriter, r *http.Request, body any, name *wire.Text) (*target, string, error) {
	t, err := s.target(r)
	if err == nil {
		err = decode(w, r, body)
	}
	if err != nil {
		return nil, "", err
	}
	resolved, err := t.resolve("path", string(*name))
	return t, resolved, err
}

func (s *server) move(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		From      wire.Text `json:"from"`
		To        wire.Text `json:"to"`
		Overwrite bool      `json:"overwrite"`
	}
	t, from, err := s.bodyTarget(w, r, &body, &body.From)
	if err != nil {
		return err
	}
	to, err := t.resolve("to", string(body.To))
	if err != nil {
		return err
	}
	return s.answer(w, t, to, false, func() error { return files.Move(from, to, body.Overwrite) })
}

func (s *server) chmod(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Path      wire.Text `json:"path"`
		Mode      *uint32   `json:"mode"`
		Recursive bool      `json:"recursive"`
	}
	t, name, err := s.bodyTarget(w, r, &body, &body.Path)
	if err != nil {
		return err
	}
	if body.Mode == nil || *body.Mode > 0o7777 {
		return wire.InvalidField("mode", "mode must be permission bits, from 0 to 0o7777")
	}
	return s.answer(w, t, name, true, func() error { return files.Chmod(name, *body.Mode, body.Recursive) })
}

func (s *server) chown(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Path wire.Text `json:"path"`
		UID  *uint32   `json:"uid"`
		GID  *uint32   `json:"gid"`
	}
	t, name, err := s.bodyTarget(w, r, &body, &body.Path)
	if err != nil {
		return err
	}
	uid, gid := idOr(body.UID), idOr(body.GID)
	if s.Manager.Book.SharedUID && (differs(uid, t.user.UID) || differs(gid, t.user.GID)) {
		return wire.Errorf("needs_subuid", "another owner needs a second user id, and only one is mapped into this sandbox")
	}
	return s.answer(w, t, name, false, func() error { return files.Chown(name, uid, gid) })
}

func idOr(id *uint32) int {
	if id == nil {
		return -1
	}
	return int(*id)
}

func differs(wanted, own int) bool { return wanted >= 0 && wanted != own }

func (s *server) symlink(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Path   wire.Text `json:"path"`
		Target wire.Text `json:"target"`
	}
	t, name, err := s.bodyTarget(w, r, &body, &body.Path)
	if err != nil {
		return err
	}
	if body.Target == "" || strings.IndexByte(string(body.Target), 0) >= 0 {
		return wire.InvalidField("target", "target must be a path without NUL")
	}
	return s.answer(w, t, name, false, func() error { return files.Symlink(name, string(body.Target)) })
}

func (s *server) removeFile(w http.ResponseWriter, r *http.Request) error {
	t, err := s.target(r, "path", "recursive")
	if err != nil {
		return err
	}
	recursive := t.flag("recursive", false)
	if t.err != nil {
		return t.err
	}
	if err := t.as(func() error { return files.Remove(t.path, recursive) }); err != nil {
		return err
	}
	return noContent(w)
}
