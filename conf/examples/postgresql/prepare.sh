# Makes the directory $1 for the database. As root, which PostgreSQL refuses to be, it becomes the
# user postgres's.
set -eu
mkdir -p "$1"
if [ "$(id -u)" = 0 ]; then
    chown postgres: "$1"
fi
chmod 0700 "$1"
