package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

const (
	// askTime bounds the headers of a request for credentials, goodbyeTime the
	// answers that are still under way at the end.
	askTime     = 10 * time.Second
	goodbyeTime = 2 * time.Second
)

// serveCredentials serves fenced credentials as a container's endpoint does, in
// loopback only, to whoever sends the token that it prints.
// Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func (s *service) serveCredentials(c *cobra.Command, listen, scope string, token int64) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return usage("--listen %q is not HOST:PORT, such as 127.0.0.1:0", listen)
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return usage("--listen %q is not a loopback address: SDKs ask no other for credentials, and others could listen in; write 127.0.0.1:0", listen)
	}
	ctx := c.Context()
	// Whoever waits for the lines wants to know now.
	if _, err := s.Credentials(ctx, scope, token); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", listen, err)
	}
	secret := rand.Text() + rand.Text()
	server := &http.Server{
		Handler: credentialsHandler(secret, func(ctx context.Context) (client.Credentials, error) {
			return s.Credentials(ctx, scope, token)
		}),
		ReadHeaderTimeout: askTime, ReadTimeout: askTime, IdleTimeout: askTime,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	for _, v := range [...][2]string{
		{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://" + l.Addr().String() + "/"}, {"AWS_CONTAINER_AUTHORIZATION_TOKEN", secret},
	} {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "export %s=%s\n", v[0], shellQuote(v[1])); err != nil {
			_ = server.Close()
			return err
		}
	}
	say(c, "serving credentials for %s under token %d until interrupted; SDKs ask here only where AWS_ACCESS_KEY_ID and AWS_PROFILE are unset", scope, token)
	select {
	case err := <-ended:
		return fmt.Errorf("serving credentials: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTime)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		_ = server.Close()
	}
	return nil
}

// credentialsHandler answers with credentials whoever sends the secret.
func credentialsHandler(secret string, fetch func(context.Context) (client.Credentials, error)) http.Handler {
	answer := func(w http.ResponseWriter, status int, v map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	refuse := func(w http.ResponseWriter, status int, code, message string) {
		answer(w, status, map[string]any{"code": code, "message": message})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(secret)) != 1 {
			refuse(w, http.StatusForbidden, "AccessDenied", "the Authorization header must be what AWS_CONTAINER_AUTHORIZATION_TOKEN says")
			return
		}
		if r.Method != http.MethodGet || r.URL.Path != "/" {
			refuse(w, http.StatusNotFound, "NotFound", "only GET / is answered here")
			return
		}
		c, err := fetch(r.Context())
		if e, ok := errors.AsType[*client.Error](err); ok {
			refuse(w, e.Status, e.Code, e.Message)
			return
		}
		if err != nil {
			refuse(w, http.StatusBadGateway, "ServiceUnreachable", err.Error())
			return
		}
		answer(w, http.StatusOK, map[string]any{
			"AccessKeyId": c.AccessKeyID, "SecretAccessKey": c.SecretAccessKey, "Token": c.SessionToken, "Expiration": c.Expiration.UTC().Format(time.RFC3339),
		})
	})
}
