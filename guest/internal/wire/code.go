package wire

import "strings"

// Bounds of what a context is given and says, in bytes. They are those of src/cloche/model/code.py.
const (
	MaxCode     = 8 << 20
	MaxEvent    = 16 << 20
	MaxItems    = 1 << 20 // of a result: the host refuses more
	MaxContexts = 64
)

// Languages are those that a context can have, in the order in which they are listed.
var Languages = []string{"python", "javascript", "bash"}

// ContextSpec is what is asked of a context.
type ContextSpec struct {
	Language string `json:"language"`
	Cwd      *Text  `json:"cwd"`
	Env      Env    `json:"env"`
	User     *Text  `json:"user"`
}

// Check names the first field that is wrong and fills the language in.
func (s *ContextSpec) Check() error {
	if s.Cwd != nil && (*s.Cwd == "" || strings.IndexByte(string(*s.Cwd), 0) >= 0) {
		return InvalidField("cwd", "cwd may not be empty or contain NUL")
	}
	if err := checkLanguage(&s.Language); err != nil {
		return err
	}
	return CheckEnv(s.Env, "env")
}

func checkLanguage(language *string) error {
	if *language == "" {
		*language = Languages[0]
	}
	for _, known := range Languages {
		if *language == known {
			return nil
		}
	}
	return InvalidField("language", "no such language: %q; there are %s", *language, strings.Join(Languages, ", "))
}

// ContextInfo is what is known of a context.
type ContextInfo struct {
	ID          string  `json:"id"`
	Language    string  `json:"language"`
	State       string  `json:"state"`
	CreatedAt   float64 `json:"created_at"`
	Pid         int     `json:"pid"`
	Cwd         Text    `json:"cwd"`
	User        Text    `json:"user"`
	Interpreter Text    `json:"interpreter"`
	Version     Text    `json:"version"`
	Default     bool    `json:"default"`
	Executions  int     `json:"executions"`
	Queued      int     `json:"queued"`
	ExecutionID *string `json:"execution_id"`
	End         *string `json:"end"`
	LimitHit    *string `json:"limit_hit"`
}

// CodeSpec is one piece of code and how it is to be run.
type CodeSpec struct {
	Code           Text     `json:"code"`
	Language       string   `json:"language"`
	ContextID      *string  `json:"context_id"`
	TimeoutSeconds *float64 `json:"timeout_seconds"`
	OnDisconnect   string   `json:"on_disconnect"`
}

// Check names the first field that is wrong and fills in what was left out.
func (s *CodeSpec) Check() error {
	if len(s.Code) > MaxCode {
		return InvalidField("code", "code is larger than %d bytes", MaxCode)
	}
	if s.TimeoutSeconds != nil && !(*s.TimeoutSeconds > 0 && *s.TimeoutSeconds <= 366*86400) {
		return InvalidField("timeout_seconds", "timeout_seconds must be above 0 and at most a year")
	}
	switch s.OnDisconnect {
	case "":
		s.OnDisconnect = "keep"
	case "keep", "interrupt":
	default:
		return InvalidField("on_disconnect", "on_disconnect must be keep or interrupt")
	}
	return checkLanguage(&s.Language)
}
