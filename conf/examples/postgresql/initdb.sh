# Makes a database in the directory $1 with the programs in $2, unless there is one. One that was
# interrupted is begun anew: only a finished one gets its name.
set -eu
if [ -e "$1/PG_VERSION" ]; then
    echo "there is a database in $1"
    exit 0
fi
rm -rf "$1.new"
# Nobody but its user and root can enter the directory of its socket, so no password is asked for.
"$2/initdb" -D "$1.new" --username=postgres --auth=trust --encoding=UTF8 --no-instructions
mv "$1.new" "$1"
