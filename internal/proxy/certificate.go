package proxy

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateAge is how long a certificate is used before its files are looked
// at again.
const certificateAge = 30 * time.Second

// certificate is a key pair in two files that may be replaced while it is in
// use, as renewals do.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	looked  time.Time
	changed [2]time.Time
}

func loadCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("tls: %w; check cert_file and key_file", err)
	}
	return c, nil
}

func (c *certificate) load() error {
	times, err := c.times()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.pair, c.changed, c.looked = &pair, times, time.Now()
	return nil
}

func (c *certificate) times() (t [2]time.Time, err error) {
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return t, err
		}
		t[i] = info.ModTime()
	}
	return t, nil
}

// get is tls.Config.GetCertificate. Files that cannot be used, half a renewal
// for one, leave the old pair in use.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateAge {
		return c.pair, nil
	}
	c.looked = time.Now()
	times, err := c.times()
	if err == nil && times == c.changed {
		return c.pair, nil
	}
	if err == nil {
		err = c.load()
	}
	if err != nil {
		c.log.Error("the new certificate cannot be used; the old one stays", "error", err)
	} else {
		c.log.Info("the certificate was replaced", "file", c.cert)
	}
	return c.pair, nil
}
