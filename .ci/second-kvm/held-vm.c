// SPDX-License-Identifier: Apache-2.0

/*
 * Holds a virtual machine with one vCPU, both idle, for as long as it lives.
 *
 * KVM switches static branches of the kernel on with the first virtual machine and off with the last:
 * the kernel rewrites its own code, `__schedule` among it. QEMU without acceleration can go on with the
 * old translation of such a place; the processor then meets a breakpoint that nobody knows, for ever.
 * Seen with QEMU 7.2 and two processors. While this program runs, no Keep is the first or the last.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
    int kvm = open("/dev/kvm", O_RDWR);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (ioctl(vm, KVM_CREATE_VCPU, 0) < 0) {
        perror("held-vm");
        return 1;
    }
    for (;;)
        pause();
}
