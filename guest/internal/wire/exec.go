package wire

import "syscall"

// ExecSpec is what the guest gives to the exec step of the launcher binary, as JSON in its first argument.
type ExecSpec struct {
	UID         int               `json:"uid"`
	GID         int               `json:"gid"`
	Groups      []uint32          `json:"groups"`
	Cwd         Text              `json:"cwd"`
	Rlimits     map[string]uint64 `json:"rlimits"`
	OOMScoreAdj int               `json:"oom_score_adj"`
	StatusFD    int               `json:"status_fd"`
	SetIDs      bool              `json:"set_ids"`
}

// ExecFailure is the one line that the exec step writes to its status descriptor when the command could not be started.
type ExecFailure struct {
	Stage   string        `json:"stage"`
	Errno   syscall.Errno `json:"errno"`
	Message string        `json:"message"`
}
