"""Parts of volumes: where their study lies, their slices, what vectors are made of them, and how they are searched without one."""
