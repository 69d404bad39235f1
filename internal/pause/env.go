package pause

const (
	// EnvActions names the environment variable with the actions of a process.
	EnvActions = "S3FENCE_PAUSE"

	// EnvDir names the environment variable with the directory of the files
	// through which a test and a paused process talk.
	EnvDir = "S3FENCE_PAUSE_DIR"
)
