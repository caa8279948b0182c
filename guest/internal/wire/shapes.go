package wire

import "strings"

// PtySize is a terminal's size in characters.
type PtySize struct {
	Rows *uint16 `json:"rows"`
	Cols *uint16 `json:"cols"`
}

// Size returns rows and columns with the defaults filled in.
func (p PtySize) Size() (rows, cols uint16) {
	rows, cols = 24, 80
	if p.Rows != nil {
		rows = *p.Rows
	}
	if p.Cols != nil {
		cols = *p.Cols
	}
	return rows, cols
}

// ProcessSpec is what is asked of a process.
type ProcessSpec struct {
	Argv             []Text   `json:"argv"`
	Env              Env      `json:"env"`
	Cwd              *Text    `json:"cwd"`
	User             *Text    `json:"user"`
	Stdin            bool     `json:"stdin"`
	Pty              *PtySize `json:"pty"`
	TimeoutSeconds   *float64 `json:"timeout_seconds"`
	OutputLimitBytes *int64   `json:"output_limit_bytes"`
	Tag              *Text    `json:"tag"`
}

// Check names the first field that is wrong.
func (s *ProcessSpec) Check() error {
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return InvalidField("argv", "argv must name a command")
	}
	for _, part := range s.Argv {
		if strings.IndexByte(string(part), 0) >= 0 {
			return InvalidField("argv", "argv may not contain NUL: the kernel cannot pass it")
		}
	}
	if s.Cwd != nil && strings.IndexByte(string(*s.Cwd), 0) >= 0 {
		return InvalidField("cwd", "cwd may not contain NUL")
	}
	if s.TimeoutSeconds != nil && !(*s.TimeoutSeconds > 0) {
		return InvalidField("timeout_seconds", "timeout_seconds must be above 0")
	}
	if s.OutputLimitBytes != nil && *s.OutputLimitBytes < 0 {
		return InvalidField("output_limit_bytes", "output_limit_bytes may not be negative")
	}
	return CheckEnv(s.Env, "env")
}

// CheckEnv refuses variables that the kernel or a C library could not tell apart.
func CheckEnv(env Env, field string) error {
	for key, value := range env {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.IndexByte(value, 0) >= 0 {
			return InvalidField(field, "environment variable %q has an empty name, '=' or NUL in it", key)
		}
	}
	return nil
}

// Usage is the receipt of an exited process: seconds and bytes.
type Usage struct {
	CPUSeconds      float64 `json:"cpu_seconds"`
	WallSeconds     float64 `json:"wall_seconds"`
	PeakMemoryBytes int64   `json:"peak_memory_bytes"`
	OutputBytes     int64   `json:"output_bytes"`
}

// ProcessInfo is what is known of a process.
type ProcessInfo struct {
	ID          string  `json:"id"`
	Pid         int     `json:"pid"`
	Argv        []Text  `json:"argv"`
	State       string  `json:"state"`
	StartedAt   float64 `json:"started_at"`
	Cwd         Text    `json:"cwd"`
	User        Text    `json:"user"`
	Tag         *Text   `json:"tag"`
	Pty         bool    `json:"pty"`
	ExitCode    *int    `json:"exit_code"`
	Signal      *int    `json:"signal"`
	Error       *Text   `json:"error"`
	LimitHit    *string `json:"limit_hit"`
	Usage       *Usage  `json:"usage"`
	StdoutBytes int64   `json:"stdout_bytes"`
	StderrBytes int64   `json:"stderr_bytes"`
}

// FileInfo describes one directory entry. Target is set for symlinks only.
type FileInfo struct {
	Path       Text    `json:"path"`
	Name       Text    `json:"name"`
	Type       string  `json:"type"`
	Size       int64   `json:"size"`
	Mode       uint32  `json:"mode"`
	UID        uint32  `json:"uid"`
	GID        uint32  `json:"gid"`
	User       Text    `json:"user"`
	Group      Text    `json:"group"`
	ModifiedAt float64 `json:"modified_at"`
	Target     *Text   `json:"target"`
	Inode      uint64  `json:"inode"`
}

// WatchEvent is one line of a watch.
type WatchEvent struct {
	Event string `json:"event"`
	Path  *Text  `json:"path,omitempty"`
	Type  string `json:"type,omitempty"`
}
