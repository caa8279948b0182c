package door

import (
	"strings"

	"cloche/guest/internal/wire"
)

const (
	maxAuthority    = 64 << 10
	maxPlaceholders = 64
	maxPlaceholder  = 4096
)

// Settings are what the host says of the door. The zero value is a closed one.
type Settings struct {
	Mode         string    `json:"mode"`
	ProxyEnv     bool      `json:"proxy_env"`
	AuthorityPEM wire.Text `json:"authority_pem"`
	Placeholders wire.Env  `json:"placeholders"`
}

// Check names the first field that is wrong.
func (s *Settings) Check() error {
	if s.Mode != "open" && s.Mode != "closed" {
		return wire.InvalidField("mode", `mode is "open" or "closed"`)
	}
	pem := string(s.AuthorityPEM)
	if pem != "" && (len(pem) > maxAuthority || !strings.Contains(pem, "-----BEGIN CERTIFICATE-----")) {
		return wire.InvalidField("authority_pem", "authority_pem is a certificate of at most %d bytes", maxAuthority)
	}
	if len(s.Placeholders) > maxPlaceholders {
		return wire.InvalidField("placeholders", "at most %d placeholders", maxPlaceholders)
	}
	for _, value := range s.Placeholders {
		if len(value) > maxPlaceholder {
			return wire.InvalidField("placeholders", "a placeholder of more than %d bytes", maxPlaceholder)
		}
	}
	return wire.CheckEnv(s.Placeholders, "placeholders")
}

// Configure opens or closes it, and writes the authority where programs look for such. Connections stay as they are:
// the door ends what may not go on. An authority that cannot be written, on a full disk or a read-only one, is told by
// AuthorityError: it costs what needs it, and not the sandbox.
func (d *Door) Configure(settings Settings) error {
	if err := settings.Check(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settings, d.bundle, d.untrusted = settings, false, nil
	if settings.AuthorityPEM != "" {
		d.bundle, d.untrusted = d.config.Trust.install([]byte(settings.AuthorityPEM))
	}
	d.open.Store(settings.Mode == "open")
	return nil
}

// AuthorityError is why programs do not know the authority, or nil.
func (d *Door) AuthorityError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.untrusted
}
