package procs

import (
	"os"
	"path"
	"strings"

	"cloche/guest/internal/users"
	"cloche/guest/internal/wire"
)

const basePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Session is what every later process inherits unless it says otherwise.
type Session struct {
	SandboxID  wire.Text `json:"sandbox_id"`
	Env        wire.Env  `json:"env"`
	SessionEnv wire.Env  `json:"session_env"`
	User       wire.Text `json:"user"`
	Workdir    wire.Text `json:"workdir"`
	OpenFiles  uint64    `json:"open_files"`
	Pids       uint64    `json:"pids"`

	door map[string]string // what programs are told of the way out, weaker than anything that somebody said
}

// Check names the first field that is wrong.
func (s *Session) Check() error {
	if s.Workdir != "" && !strings.HasPrefix(string(s.Workdir), "/") {
		return wire.InvalidField("workdir", "workdir must be absolute")
	}
	if err := wire.CheckEnv(s.Env, "env"); err != nil {
		return err
	}
	return wire.CheckEnv(s.SessionEnv, "session_env")
}

// environment merges, from weak to strong: base, the door's, the sandbox's, the session's, the request's.
func (s *Session) environment(user users.User, cwd string, spec *wire.ProcessSpec) []string {
	merged := map[string]string{
		"PATH": basePath, "HOME": user.Home, "USER": user.Name, "LOGNAME": user.Name, "SHELL": user.Shell,
		"LANG": "C.UTF-8", "PWD": cwd,
	}
	if spec.Pty != nil {
		merged["TERM"] = "xterm-256color"
	}
	said := []wire.Env{s.Env, s.SessionEnv, spec.Env}
	for key, value := range s.door {
		if !saidOtherwise(said, key) {
			merged[key] = value
		}
	}
	for _, layer := range said {
		for key, value := range layer {
			merged[key] = value
		}
	}
	list := make([]string, 0, len(merged))
	for key, value := range merged {
		list = append(list, key+"="+value)
	}
	return list
}

// saidOtherwise: programs read a variable of a proxy in upper and in lower case, so whoever sets one means both.
func saidOtherwise(said []wire.Env, key string) bool {
	if !strings.HasSuffix(strings.ToUpper(key), "_PROXY") {
		return false
	}
	for _, layer := range said {
		_, upper := layer[strings.ToUpper(key)]
		_, lower := layer[strings.ToLower(key)]
		if upper || lower {
			return true
		}
	}
	return false
}

// directory is where the process starts: what was asked, else the session's, else the user's home.
func (s *Session) directory(user users.User, spec *wire.ProcessSpec) string {
	if spec.Cwd != nil && *spec.Cwd != "" {
		return Expand(string(*spec.Cwd), user.Home)
	}
	if s.Workdir != "" {
		return string(s.Workdir)
	}
	if info, err := os.Stat(user.Home); err == nil && info.IsDir() {
		return user.Home
	}
	return "/"
}

// Expand makes a path absolute: "~" is the home, and what is relative begins there.
func Expand(name, home string) string {
	if name == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return join(home, rest)
	}
	if !strings.HasPrefix(name, "/") {
		return join(home, name)
	}
	return name
}

// join does not clean what follows: "link/.." means something else to the kernel than to path.Join.
func join(home, rest string) string {
	if rest == "" || rest == "." {
		return home
	}
	return path.Clean(home) + "/" + rest
}
