package door

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloche/guest/internal/wire"
)

const authority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func TestEnvironmentOfAnOpenDoor(t *testing.T) {
	d := openDoor(t)
	env := d.Environment()
	for _, name := range []string{"HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		if env[name] != "http://"+d.address("proxy") {
			t.Errorf("%s: %q", name, env[name])
		}
	}
	if env["NO_PROXY"] != noProxy || env["NODE_USE_ENV_PROXY"] != "1" || env["JAVA_TOOL_OPTIONS"] != "" || env["SSL_CERT_FILE"] != "" {
		t.Error(env)
	}
	d.config.Redirect = false
	if !strings.Contains(d.Environment()["JAVA_TOOL_OPTIONS"], "-Dhttps.proxyHost=127.0.0.1") {
		t.Error(d.Environment())
	}
	if err := d.Configure(Settings{Mode: "closed", ProxyEnv: true, Placeholders: wire.Env{"TOKEN": "p"}}); err != nil {
		t.Fatal(err)
	}
	if env := d.Environment(); len(env) != 1 || env["TOKEN"] != "p" {
		t.Error(env)
	}
}

func TestWrongSettingsChangeNothing(t *testing.T) {
	d := openDoor(t)
	many := wire.Env{}
	for i := range maxPlaceholders + 1 {
		many[strings.Repeat("x", i+1)] = ""
	}
	for field, wrong := range map[string]Settings{"mode": {}, "authority_pem": {Mode: "open", AuthorityPEM: "x"},
		"placeholders": {Mode: "open", Placeholders: many}} {
		if err := d.Configure(wrong); err == nil || wire.FromErr(err).Details["field"] != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, env := range []wire.Env{{"A=B": ""}, {"": ""}, {"A": "\x00"}, {"A": strings.Repeat("x", maxPlaceholder+1)}} {
		if d.Configure(Settings{Mode: "open", Placeholders: env}) == nil {
			t.Error(env)
		}
	}
	if d.Environment()["HTTP_PROXY"] == "" {
		t.Error("it is another one")
	}
}

func write(t *testing.T, place, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(place, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, place string) string {
	t.Helper()
	data, err := os.ReadFile(place)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAuthorityIsInTheBundleOnceAndReplaced(t *testing.T) {
	d := openDoor(t)
	system := d.config.Trust.at(bundles[0])
	write(t, system, "of the system")
	other := strings.Replace(authority, "AAAA", "BBBB", 1)
	for _, pem := range []string{other, authority, strings.TrimSpace(authority)} {
		if err := d.Configure(Settings{Mode: "open", AuthorityPEM: wire.Text(pem)}); err != nil {
			t.Fatal(err)
		}
	}
	want := "of the system\n" + ownBegin + authority + ownEnd
	for _, place := range []string{system, d.config.Trust.bundle()} {
		if got := read(t, place); got != want {
			t.Errorf("%s: %q", place, got)
		}
	}
	if info, _ := os.Stat(system); info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
	if read(t, d.config.Trust.authority()) != authority {
		t.Error("the authority's own file")
	}
	env := d.Environment()
	if env["SSL_CERT_FILE"] != d.config.Trust.bundle() || env["NODE_EXTRA_CA_CERTS"] != d.config.Trust.authority() {
		t.Error(env)
	}
}

func TestAuthorityThatCannotBeWrittenIsToldAndNotNamed(t *testing.T) {
	d := openDoor(t)
	write(t, d.config.Trust.at("etc"), "a file where a directory should be")
	if err := d.Configure(Settings{Mode: "open", AuthorityPEM: authority}); err != nil {
		t.Fatal(err)
	}
	if env := d.Environment(); d.AuthorityError() == nil || env["NODE_EXTRA_CA_CERTS"] != "" || !d.open.Load() {
		t.Error(env)
	}
	if err := d.Configure(Settings{Mode: "open"}); err != nil || d.AuthorityError() != nil {
		t.Error(err)
	}
}

func TestWithoutABundleOfTheSystemNoneIsReplaced(t *testing.T) {
	d := openDoor(t)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	write(t, elsewhere, "not ours")
	if err := os.MkdirAll(filepath.Dir(d.config.Trust.at(bundles[0])), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, d.config.Trust.at(bundles[0])); err != nil {
		t.Fatal(err)
	}
	write(t, d.config.Trust.at(bundles[1]), "")
	if err := d.Configure(Settings{Mode: "open", AuthorityPEM: authority}); err != nil {
		t.Fatal(err)
	}
	env := d.Environment()
	if env["SSL_CERT_FILE"] != "" || env["NODE_EXTRA_CA_CERTS"] == "" || read(t, elsewhere) != "not ours" {
		t.Error(env)
	}
}
