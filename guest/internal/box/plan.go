// Package box makes the namespace engine's box and watches over it. A plan (data, made by
// src/cloche/engines/namespace/plan.py) says everything that is to happen; nothing here decides policy.
package box

import (
	"encoding/json"

	"cloche/guest/internal/landlock"
	"cloche/guest/internal/stages"
)

// Plan is the JSON on the launcher's standard input.
type Plan struct {
	SandboxID    string            `json:"sandbox_id"`
	RunDir       string            `json:"run_dir"`
	GuestPath    string            `json:"guest_path"`
	Hostname     string            `json:"hostname"`
	IDs          IDs               `json:"ids"`
	Cgroups      []Cgroup          `json:"cgroups"`
	Freezer      *Freezer          `json:"freezer"`
	MemoryEvents string            `json:"memory_events"`
	Skeleton     []Entry           `json:"skeleton"`
	Binds        []Bind            `json:"binds"`
	Hide         []string          `json:"hide"`
	DiskMiB      int               `json:"disk_mib"`
	Inodes       int               `json:"inodes"`
	ShmMiB       int               `json:"shm_mib"`
	Devices      []string          `json:"devices"`
	ProcReadOnly []string          `json:"proc_read_only"`
	ProcMasked   []string          `json:"proc_masked"`
	Landlock     landlock.Rules    `json:"landlock"`
	GuestEnv     map[string]string `json:"guest_env"`
	GuestCaps    []int             `json:"guest_caps"`
	Pids         uint64            `json:"pids"`
	Deadline     float64           `json:"deadline"`
	Owner        int               `json:"owner"` // a process without which nobody wants the box; 0: it lives by itself
	Restore      string            `json:"restore"`
	KeepDisk     string            `json:"keep_disk"`
	Program      *Program          `json:"program"`
}

// learnPlans makes the decoder of plans, which takes it longer than reading one does. Whoever waits for a plan has the time.
func learnPlans() {
	var known Plan
	_ = json.Unmarshal([]byte(`{"sandbox_id":"","ids":{"uid_map":[[0]]},"cgroups":[{"writes":[["",""]],"optional":[""]}],"freezer":{},`+
		`"skeleton":[{"mode":0}],"binds":[{"read_only":true}],"landlock":{"read":[""]},"guest_env":{"":""},"guest_caps":[0],`+
		`"pids":0,"deadline":0.5,"program":{"argv":[""],"env":{"":""},"files":[{"fd":0}],"listen":[{"fd":0}]}}`), &known)
}

// IDs says which host ids the box has. Mode "one": the caller's own, seen inside as UID/GID. "helper": Maps, written by
// newuidmap and newgidmap. "range": a free slot of Cloche's own range, found by the launcher (root only).
type IDs struct {
	Mode      string  `json:"mode"`
	UID       int     `json:"uid"`
	GID       int     `json:"gid"`
	UIDMap    [][]int `json:"uid_map"`
	GIDMap    [][]int `json:"gid_map"`
	Newuidmap string  `json:"newuidmap"`
	Newgidmap string  `json:"newgidmap"`
	Lock      string  `json:"lock"`
	First     int     `json:"first"`
	Size      int     `json:"size"`
	Slots     int     `json:"slots"`
}

// Shared tells whether user code has the guest's uid.
func (ids IDs) Shared() bool { return ids.Mode == "one" }

// Cgroup is one directory to make and the values to write into it before anything runs there. Files of Optional may be
// missing: the kernel has them only where it counts swap.
type Cgroup struct {
	Dir      string      `json:"dir"`
	Writes   [][2]string `json:"writes"`
	Optional []string    `json:"optional"`
}

// Freezer is v2's cgroup.freeze or v1's freezer.state.
type Freezer struct {
	File   string `json:"file"`
	Freeze string `json:"freeze"`
	Thaw   string `json:"thaw"`
	State  string `json:"state"`
	Frozen string `json:"frozen"`
}

// Entry is a thing in the lower layer of the root: kind "dir", "file" or "link".
type Entry struct {
	Kind    string `json:"kind"`
	Path    string `json:"path"`
	Mode    uint32 `json:"mode"`
	UID     int    `json:"uid"`
	GID     int    `json:"gid"`
	Content string `json:"content"`
	Target  string `json:"target"`
}

// Bind is a host path that the box sees.
type Bind struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only"`
	Optional bool   `json:"optional"`
	KVM      bool   `json:"kvm"` // it is a node of /dev/kvm that the box's ids may open, for a program that opens it by name
}

// StageError names the step that failed, for the caller's message.
type StageError = stages.Error

func stage(name string, err error) error { return stages.Of(name, err) }

func stagef(name, format string, args ...any) error { return stages.Off(name, format, args...) }
