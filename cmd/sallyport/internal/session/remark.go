package session

import (
	"encoding/json"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/oauth"
)

// Remark is what is kept beside the tokens of an account: the settings with which it was signed in,
// as far as a sign-out or the person needs them again. It holds no secret, but names files that do.
// Each field is the flag of its name, and empty if that was not given.
type Remark struct {
	Via               string   `json:"via,omitempty"`
	Jump              string   `json:"jump,omitempty"`
	SSHConfig         string   `json:"ssh_config,omitempty"`
	SSHOption         []string `json:"ssh_option,omitempty"`
	OAuthRoute        string   `json:"oauth_route,omitempty"`
	Profile           string   `json:"profile,omitempty"`
	ClientID          string   `json:"client_id,omitempty"`
	ClientSecretFile  string   `json:"client_secret_file,omitempty"`
	ClientMetadataURL string   `json:"client_metadata_url,omitempty"`
	ClientKey         string   `json:"client_key,omitempty"`
	ClientKeyAlg      string   `json:"client_key_alg,omitempty"`
	AuthStyle         string   `json:"auth_style,omitempty"`
	Network           network  `json:"network,omitzero"`
	Asked             asked    `json:"asked,omitzero"`
}

// network is what connections to the servers need, by the flags of these names.
type network struct {
	CAFile            string `json:"ca_file,omitempty"`
	ClientCert        string `json:"client_cert,omitempty"`
	ClientCertKey     string `json:"client_cert_key,omitempty"`
	AllowInsecureHTTP bool   `json:"allow_insecure_http,omitempty"`
}

// asked is what was asked of the authorization server, by the flags of these names.
type asked struct {
	Grant       string `json:"grant,omitempty"`
	Issuer      string `json:"issuer,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Audience    string `json:"audience,omitempty"`
	Bearer      string `json:"bearer,omitempty"`
	IDPIssuer   string `json:"idp_issuer,omitempty"`
	IDPTokenURL string `json:"idp_token_url,omitempty"`
	IDPClientID string `json:"idp_client_id,omitempty"`
}

// newRemark takes out of the settings what is kept.
func newRemark(s cli.Remote) json.RawMessage {
	text, _ := json.Marshal(Remark{ // strings cannot fail
		Via: s.Via, Jump: s.Jump, SSHConfig: s.SSHConfig, SSHOption: s.SSHOption, OAuthRoute: s.OAuthRoute, Profile: s.Profile,
		ClientID: s.ClientID, ClientSecretFile: s.ClientSecretFile, ClientMetadataURL: s.ClientMetadataURL,
		ClientKey: s.ClientKey, ClientKeyAlg: s.ClientKeyAlg, AuthStyle: s.AuthStyle,
		Network: network{s.CAFile, s.ClientCert, s.ClientCertKey, s.AllowInsecureHTTP},
		Asked:   asked{s.Grant, s.Issuer, s.Resource, s.Audience, s.Bearer, s.IDPIssuer, s.IDPTokenURL, s.IDPClientID},
	})
	return text
}

// RemarkOf returns what is known of the settings of an account. For an account from before there
// were remarks, that is its profile and its route.
func RemarkOf(account oauth.Account) Remark {
	var r Remark
	if len(account.Remark) > 0 && json.Unmarshal(account.Remark, &r) == nil {
		return r
	}
	realm, _ := ParseRealm(account.Realm)
	return Remark{Via: realm.Via, Profile: realm.Profile}
}

// Settings returns the settings of the account at upstream. What is a secret, and what does not
// concern one account, is that of given.
func (r Remark) Settings(given cli.Remote, upstream string) cli.Remote {
	given.URL = upstream
	given.Via, given.Jump, given.SSHConfig, given.SSHOption = r.Via, r.Jump, r.SSHConfig, r.SSHOption
	given.Profile, given.ClientID, given.ClientMetadataURL = r.Profile, r.ClientID, r.ClientMetadataURL
	given.Resource, given.Audience, given.Issuer = r.Asked.Resource, r.Asked.Audience, r.Asked.Issuer
	for _, text := range []struct {
		to   *string
		kept string
	}{
		{&given.OAuthRoute, r.OAuthRoute}, {&given.ClientSecretFile, r.ClientSecretFile}, {&given.ClientKey, r.ClientKey},
		{&given.ClientKeyAlg, r.ClientKeyAlg}, {&given.AuthStyle, r.AuthStyle}, {&given.CAFile, r.Network.CAFile},
		{&given.ClientCert, r.Network.ClientCert}, {&given.ClientCertKey, r.Network.ClientCertKey},
		{&given.Grant, r.Asked.Grant}, {&given.Bearer, r.Asked.Bearer}, {&given.IDPIssuer, r.Asked.IDPIssuer},
		{&given.IDPTokenURL, r.Asked.IDPTokenURL}, {&given.IDPClientID, r.Asked.IDPClientID},
	} {
		if text.kept != "" {
			*text.to = text.kept
		}
	}
	given.AllowInsecureHTTP = given.AllowInsecureHTTP || r.Network.AllowInsecureHTTP
	return given
}

// Flags returns the flags that name the account beside its URL, for a command that a person types.
func (r Remark) Flags() string {
	var flags []string
	for _, f := range []struct{ name, value, unset string }{
		{"--via", r.Via, ""}, {"-J", r.Jump, ""}, {"-F", r.SSHConfig, ""}, {"--profile", r.Profile, "default"},
		{"--client-id", r.ClientID, ""}, {"--resource", r.Asked.Resource, ""}, {"--audience", r.Asked.Audience, ""},
	} {
		if f.value != f.unset {
			flags = append(flags, f.name+" "+ShellWord(f.value))
		}
	}
	return strings.Join(flags, " ")
}

// ShellWord returns text as one word of a shell's command line.
func ShellWord(text string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("@%+=:,./_-[]", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
