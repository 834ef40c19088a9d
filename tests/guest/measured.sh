#!/bin/sh
# Shows what the machine's TPM says of this boot, and as what it was started; the host judges.
for register in 4 7 11 12; do
  echo "pcr-$register $(cat /sys/class/tpm/tpm0/pcr-sha256/$register)"
done
echo "uuid $(cat /sys/class/dmi/id/product_uuid)"
echo "line $(cat /proc/cmdline)"
ls /dev/tpmrm0
