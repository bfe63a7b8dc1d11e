/* A disk whose writes or syncs fail: preloaded into a server, it lets calls on files
 * below one directory fail with EIO while a switch says so.
 *
 * FAILING_DISK         the directory
 * FAILING_DISK_SWITCH  a file; while it is there, what its first letter says fails:
 *                      s (syncs) or w (writes, and syncs)
 *
 * Each call that failed is a line in the file FAILING_DISK_SWITCH.log: the call, and the path. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* What the switch says now; 0: nothing fails. */
static char mode(void) {
    const char *path = getenv("FAILING_DISK_SWITCH");
    char letter = 0;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (read(fd, &letter, 1) != 1) letter = 0;
    close(fd);
    return letter;
}

static void note(const char *call, const char *path) {
    char name[PATH_MAX], line[PATH_MAX + 32];
    snprintf(name, sizeof name, "%s.log", getenv("FAILING_DISK_SWITCH"));
    int length = snprintf(line, sizeof line, "%s %s\n", call, path);
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    if (REAL(write)(fd, line, (size_t)length) != length) abort();
    close(fd);
}

/* Whether this call is to fail; it is noted then. */
static int fails(int fd, const char *call, int is_sync) {
    int before = errno;
    char letter = mode();
    const char *directory = getenv("FAILING_DISK");
    char link[64], path[PATH_MAX];
    if (!directory || !(letter == 'w' || (letter == 's' && is_sync))) goto well;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) goto well;
    path[length] = 0;
    if (strncmp(path, directory, strlen(directory)) != 0) goto well;
    note(call, path);
    errno = EIO;
    return 1;
well:
    errno = before;
    return 0;
}

int fsync(int fd) {
    return fails(fd, "fsync", 1) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd) {
    return fails(fd, "fdatasync", 1) ? -1 : REAL(fdatasync)(fd);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails(fd, "write", 0) ? -1 : REAL(write)(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return fails(fd, "pwrite", 0) ? -1 : REAL(pwrite)(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return fails(fd, "pwrite64", 0) ? -1 : REAL(pwrite64)(fd, bytes, length, at);
}
